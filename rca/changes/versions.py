"""Versions in a diff: of dependencies, and of what the service runs on."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rca.changes.diff import File, Line, squeezed

LISTS = re.compile(
    r"(?i)(^|/)(requirements[^/]*\.(txt|in)|pyproject\.toml|setup\.(py|cfg)|pipfile(\.lock)?|poetry\.lock|uv\.lock|constraints[^/]*\.txt"
    r"|go\.(mod|sum)|pom\.xml|build\.gradle(\.kts)?|[^/]*\.versions\.toml|package(-lock)?\.json|yarn\.lock|pnpm-lock\.yaml"
    r"|gemfile(\.lock)?|[^/]*\.gemspec|composer\.(json|lock)|[^/]*\.(cs|fs|vb)proj|packages\.config|directory\.packages\.props"
    r"|chart\.(yaml|lock)|cargo\.(toml|lock)|mix\.(exs|lock)|[^/]*\.sbt)$"
)
_PIN = re.compile(r"^[\w.-]+(\[[\w,]+\])?==\d[\w.]*$")
_NUMBER = re.compile(r"v?\d+(\.\d+)*([.-]?[a-z0-9]+)*")
_OWN = re.compile(r"^[\"']?(app)?[vV]ersion[\"']?\s*[:=]|^<version>")
_PLATFORM = re.compile(
    r"(?i)(^|[\"'_\s.-])((engine|runtime|platform|kubernetes|python|node|java|go|ruby|php|dotnet|driver|kernel)_?version|runtime|engine)[\"']?\s*[:=]"
    r"|<targetframework>|^\s*(go|toolchain) (go)?\d[\d.]*$"
)
_PLATFORMS = re.compile(
    r"(^|/)(\.(tool|python|ruby|java|node|go)-versions?|\.nvmrc|\.sdkmanrc|runtime\.txt)$"
)
_TRYING = re.compile(  # what is there for tests and development alone
    r"(?i)dev-?_?dependencies|require-dev|group\W+(:?(dev|test)\w*\W*)+|testimplementation|testruntime|<scope>test"
)
_SECTION = re.compile(r"(?i)^\s*([\"']?[\w-]*(dependencies|require(-dev)?)\b|\[|group\b)")
_IMAGE = re.compile(
    r"(?i)^\s*-?\s*(image|repository)[\"']?\s*[:=]\s*[\"']?([^\s\"':@]+)(:([^\s\"']+))?"
)
_TAG = re.compile(r"(?i)^\s*-?\s*(?:new)?tag[\"']?\s*[:=]\s*[\"']?([\w.-]+)")
_NAMED = re.compile(r"^\s*-?\s*name:\s*[\"']?([^\s\"':]+)")  # in a kustomization
_FROM = re.compile(r"(?i)^\s*FROM\s+(--platform=\S+\s+)?(\S+)")


def dependencies(files: Sequence[File]) -> str | None:
    """A dependency that is asked for in another version."""
    for one in files:
        listed = bool(LISTS.search(one.path))
        old = {_named(line.text): line for line in one.removed if _number(line)}
        for line in one.added if listed else [x for x in one.added if _PIN.match(x.text)]:
            if _PLATFORM.search(line.text) or _to_try(one, line):
                continue
            if _number(line) and _named(line.text) in old and not _of_itself(one, line):
                return f"{squeezed(old[_named(line.text)].text)} → {squeezed(line.text)}"[:100]
    return None


def _number(line: Line) -> bool:
    """Whether a line holds a number that is no option of a command, as in a script of package.json."""
    return bool(re.search(r"\d", line.text)) and not re.search(r":\s*\"[^\"]* --?\w", line.text)


def _named(text: str) -> str:
    """A line without its numbers and bounds: the name of what it asks for."""
    text = re.sub(r"\bh1:\S+|\bsha\d+[:-]\S+", "", text)
    return re.sub(r"[\s\"',=<>~^!]", "", _NUMBER.sub("", text))


def _to_try(one: File, line: Line) -> bool:
    """Whether a dependency is for tests or development alone, by its line or the section above."""
    if _TRYING.search(line.text):
        return True
    hunk = next(hunk for hunk in one.hunks if line in hunk)
    above = hunk[: hunk.index(line)]
    section = next((x.text for x in reversed(above) if _SECTION.match(x.text)), "")
    return bool(_TRYING.search(section))


def _of_itself(one: File, line: Line) -> bool:
    """Whether it is the package's own version: not inside a dependency or a lock."""
    if not _OWN.search(line.text.strip()):
        return False
    if one.path.endswith("pom.xml"):
        around = " ".join(x.text for hunk in one.hunks for x in hunk)
        return "<dependency>" not in around and "<parent>" not in around
    if one.path.endswith("setup.py"):
        return True
    chart = one.path.lower().endswith("chart.yaml")
    return "lock" not in one.path and line.depth <= (0 if chart else 2)


def runtime(files: Sequence[File]) -> str | None:
    """The image, engine or runtime a service runs on, in another version. A service's own image
    in a new version is its release, and no such thing."""
    for one in files:
        found = _base(one) or _image(one) or _platform(one)
        if found:
            return found[:100]
    return None


def _base(one: File) -> str | None:
    if one.ending != "dockerfile":
        return None
    old = [found[2] for line in one.removed if (found := _FROM.match(line.text))]
    new = [found[2] for line in one.added if (found := _FROM.match(line.text))]
    return f"{old[0]} → {new[0]}" if old and new and old != new else None


def _image(one: File) -> str | None:
    own = {part.lower() for part in re.split(r"[/.]", one.path)}
    around = [x.text for hunk in one.hunks for x in hunk]
    near = [found[2] for text in around if (found := _IMAGE.match(text))]
    if "kustomization" in one.path:
        near += [found[1] for text in around if (found := _NAMED.match(text))]
    for line in one.added:
        image, tag = _IMAGE.match(line.text), _TAG.match(line.text)
        name = image[2] if image else near[0] if tag and near else None
        if not name or not one.removed or name.rsplit("/", 1)[-1].lower() in own:
            continue
        return f"{name} {(image[4] if image else tag[1]) or ''}".strip()  # type: ignore[index]
    return None


def _platform(one: File) -> str | None:
    if _PLATFORMS.search(one.path) and one.removed and one.added:
        return f"{one.removed[0].text.strip()} → {one.added[0].text.strip()}"
    old = [line.text for line in one.removed if _PLATFORM.search(line.text)]
    new = [line.text for line in one.added if _PLATFORM.search(line.text) and _number(line)]
    same = [text for text in new if any(_named(text) == _named(was) for was in old)]
    runs = one.is_config or LISTS.search(one.path)
    return same[0].strip() if same and runs else None


def told(message: str, before: str, after: str, service: str) -> str | None:
    """What a rollout says of itself: an upgrade with its version, or another image beside its own."""
    said = re.search(
        r"(?i)\b(upgrade|runtime|driver|bump|engine|kernel)\b[^\n]*\d+\.\d+|\d+\.\d+[^\n]*\b(upgrade|runtime|engine|driver)\b",
        message,
    )
    if said:
        return message.split("\n")[0][:100]
    old = dict(_tagged(before))
    for name, tag in _tagged(after):
        if name in old and old[name] != tag and name.rsplit("/", 1)[-1] != service:
            return f"{name} {old[name]} → {tag}"
    return None


def _tagged(images: str) -> list[tuple[str, str]]:
    return [(name, tag) for name, tag in re.findall(r"([\w./-]+):([\w.-]+)", images)]
