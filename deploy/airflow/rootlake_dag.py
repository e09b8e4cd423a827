"""rootlake as an Airflow DAG: each source a task of its own, then repair, detection, diagnosis.

`rootlake run` does the same in one task; single tasks show in Airflow which source failed, and are
retried alone. Sources are those of rootlake.toml, by name.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.decorators import dag
from airflow.operators.bash import BashOperator

ROOTLAKE = "rootlake --config /etc/rootlake/rootlake.toml"
SOURCES = ("prometheus", "jaeger", "sentry", "k8s")


@dag(
    dag_id="rootlake",
    schedule="*/5 * * * *",
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,  # a pull goes on from its cursor, however long ago that was
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
)
def rootlake() -> None:
    rest = BashOperator(
        task_id="repair_detect_diagnose",
        bash_command=f"{ROOTLAKE} run --no-ingest",
        trigger_rule="all_done",  # one source's failure stops no other
    )
    for source in SOURCES:
        pull = BashOperator(
            task_id=f"ingest_{source}", bash_command=f"{ROOTLAKE} ingest {source} --wait 60"
        )
        pull >> rest


rootlake()
