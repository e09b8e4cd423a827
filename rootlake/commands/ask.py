"""ask in your own words; an agent looks at the lake, Kubernetes, Prometheus and git

Without a model an offline planner drives the same tools. With --model any provider does,
its key read from the environment.

example:
  rootlake ask "why did checkout fail at 14:05?"
  rootlake ask --model openai:gpt-5 "why did checkout fail at 14:05?" """

from __future__ import annotations

import argparse

from lake.errors import UsageError
from rootlake.context import Context


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("question", metavar="QUESTION", help="what you want to know")
    parser.add_argument("--model", metavar="PROVIDER:NAME", help="a language model to use")
    parser.add_argument("--base-url", metavar="URL", help="where an OpenAI-like server listens")


def run(context: Context) -> int:
    from rca.agent.ask import ask

    if not context.arguments.question.strip():
        raise UsageError('the question is empty; ask as in "why did checkout fail at 14:05?".')
    context.lake.require()
    given, settings = context.arguments, context.config.model
    with context.progress("thinking") as say:
        answer = ask(
            context.workspace,
            given.question,
            model=given.model or settings.name,
            base_url=given.base_url or settings.base_url,
            on_step=say,
        )
    if context.json:
        context.answer(answer.as_dict())
    else:
        from rootlake.tables import answered

        answered(context.out, answer.as_dict())
    return 0
