"""Changes: kinds of diffs and records in other words than the generated ones, and near-misses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bench import changes as bench
from rca import changes
from rca.changes import records, signs, stories

ONSET = datetime(2026, 3, 4, 14, 5, tzinfo=UTC)
BLANK = dict.fromkeys(
    ("service", "ref", "author", "message", "files", "diff", "before", "after", "cluster")
)


def diff(path: str, rows: str) -> str:
    """A diff of one hunk, its rows with bars between them."""
    lines = rows.split("|")
    return "\n".join([f"diff --git a/{path} b/{path}", "@@ -10,9 +10,9 @@", *lines])


def row(kind: str, minutes: float, **more: Any) -> dict[str, Any]:
    """A change so many minutes before the onset."""
    when = ONSET - timedelta(minutes=minutes)
    return {**BLANK, "kind": kind, "ts": when, "service": "basket", **more}


POOL = diff("services/basket/db.py", "-POOL_SIZE = 20|+POOL_SIZE = 2")


@pytest.mark.parametrize(
    ("path", "rows", "key"),
    [
        # a query for each row
        ("a.py", "-rows = Order.objects.prefetch_related('lines')|+rows = Order.objects", "loop"),
        ("a.cs", "-db.Orders.Include(o => o.Lines).ToList();|+db.Orders.ToList();", "loop"),
        ("A.java", "-dao.findAllById(ids);|+ids.stream().map(dao::findById).toList();", "loop"),
        ("a.rb", "-Line.insert_all(rows)|+rows.each { Line.create!(_1) }", "loop"),
        # an index no longer declared
        ("a.go", '-ID int64 `gorm:"index"`|+ID int64', "index"),
        ("db/1.xml", '+<dropIndex indexName="ix" tableName="t"/>', "index"),
        ("schema.prisma", "-  @@index([a])", "index"),
        # settings in other spellings
        ("Procfile", "-web: gunicorn app --workers 8|+web: gunicorn app --workers 1", "pool"),
        ("helm/values.yaml", "-replicaCount: 4|+replicaCount: 1", "pool"),
        ("k8s/quota.yaml", " hard:|-  pods: '40'|+  pods: '4'", "pool"),
        ("a.go", "-\tgrpc_retry.WithMax(2),|+\tgrpc_retry.WithMax(20),", "retries"),
        ("a.ts", '-"node --max-old-space-size=2048 a"|+"node a"', "resources"),
        ("a.go", "-rdb.Set(ctx, k, v, time.Hour)|+rdb.Set(ctx, k, v, time.Second)", "cache"),
        ("A.java", "-c.expireAfterWrite(ofHours(1))|+c.expireAfterWrite(ofHours(0))", "cache"),
        ("a.properties", "-logging.level.org.x=WARN|+logging.level.org.x=TRACE", "loglevel"),
        ("main.go", "-cfg.Level = zap.InfoLevel|+cfg.Level = zap.DebugLevel", "loglevel"),
        ("prod.rb", "-config.log_level = :warn|+config.log_level = :debug", "loglevel"),
        ("flags.yaml", "-x_rollout_percentage: 5|+x_rollout_percentage: 100", "flag"),
        ("a.rb", "-Flipper.disable(:x)|+Flipper.enable(:x)", "flag"),
        ("a.ts", "-  if (flags.isEnabled('x')) {|   run();|-  }", "flag"),
        ("a.yaml", "-caFile: /tls/a.pem|+caFile: /tls/b.pem", "cert"),
        ("p.yaml", "+kind: NetworkPolicy|+spec:|+  podSelector: {}", "network"),
        ("s.yaml", " selector:|-  app: basket|+  app: basket-api", "network"),
        ("d.yaml", " env:|-- name: DB_URL|+- name: BASKET_DB|   valueFrom:", "config"),
        ("d.yaml", " secretKeyRef:|-  name: db|+  name: db-v2", "config"),
        ("a.cs", '-Configuration["A:Url"]|+Configuration["A:BaseUrl"]', "config"),
        # versions
        ("Chart.yaml", " deps:| - name: redis|-  version: 17.1.0|+  version: 19.0.1", "version"),
        ("go.sum", "-github.com/a/b v1.0.0 h1:x=|+github.com/a/b v1.1.0 h1:y=", "version"),
        (".nvmrc", "-18.1.0|+22.1.0", "runtime"),
        ("a.csproj", "-<TargetFramework>net6.0<|+<TargetFramework>net8.0<", "runtime"),
        # code
        ("a.kt", "-val a = b[id] ?: return null|+val a = b[id]!!", "nil"),
        ("a.rs", "-if let Some(a) = b.first() {|-    return a;|-}|+b[0]", "nil"),
        ("a.go", "-if len(rows) == 0 {|-\treturn nil|-}| return rows[0]", "nil"),
        ("a.cs", "-var x = await f.ReadAsync();|+var x = f.ReadAsync().Result;", "wait"),
        ("a.py", "-    background.add_task(mail, x)|+    mail(x)", "wait"),
        ("a.ts", '-  return () => bus.off("x", f);|   });', "leak"),
        ("a.java", "-  fees.stream().filter(f).map(g)|+  fees.stream().map(g)", "logic"),
        ("a.rb", "-  a > b ? x : y|+  a > b ? y : x", "logic"),
        ("a.py", '-q = "SELECT a FROM t WHERE open"|+q = "SELECT a FROM t"', "logic"),
    ],
)  # fmt: skip
def test_a_kind_of_change_is_seen_in_other_words(path: str, rows: str, key: str) -> None:
    assert key in bench.by_analyser(diff(f"src/{path}", rows))


@pytest.mark.parametrize(
    ("path", "rows"),
    [
        ("A.java", "-Duration t = Duration.ofMillis(2000);|+Duration t = Duration.ofSeconds(2);"),
        ("a.go", "-d := 90 * time.Second|+d := 90000 * time.Millisecond"),
        ("a.yml", "-a.pool-size: 20|+a:|+  pool-size: 20"),
        ("v.yaml", "-r: {limits: {memory: 1Gi}}|+r:|+  limits:|+    memory: 1Gi"),
        ("d.yaml", " env:|+- name: BASKET_COLOUR|+  value: green"),
        ("d.yaml", "-  image: redis:6|+  image: redis:6"),
        ("a.py", "-def old(x):|-    if x is None:|-        return 0|-    return x.y"),
        ("a.ts", "-return a.get(u).then((r) => r.b);|+const r = await a.get(u);|+return r.b;"),
        ("A.java", "-import java.util.*;|+import java.util.List;"),
        ("a.py", "-for f in fs:|-    total += f.x|-return total|+return sum(f.x for f in fs)"),
        ("a.rs", "-let b = match f() {|- Ok(b) => b,|- Err(e) => return Err(e),|-}|+let b = f()?;"),
        ("a.py", "-p = os.path.join(root, 'a', n)|+p = Path(root) / 'a' / n"),
        ("a.cs", "-return a == null ? null : a.B;|+return a?.B;"),
        ("a.ts", "-return a.b.c;|+return a.b?.c ?? '';"),
        ("a.ts", "+if (!a) throw new NotFound();| return a.b;"),
        ("a.tsx", "-<p>No more than 5</p>|+<p>No more than 6</p>"),
        ("a.go", "-if err == io.EOF {|+if errors.Is(err, io.EOF) {"),
        ("package.json", ' "devDependencies": {|-  "jest": "29.1.0",|+  "jest": "29.7.0",'),
        ("requirements-dev.txt", "-pytest==7.4.0|+pytest==8.2.0"),
        ("Chart.yaml", "-version: 1.0.1|-appVersion: 2.0.0|+version: 1.0.2|+appVersion: 2.0.1"),
        ("messages.properties", "-e.timeout=No answer.|+e.timeout=No answer in time."),
        ("renovate.json", '-"prConcurrentLimit": 2|+"prConcurrentLimit": 9'),
    ],
)  # fmt: skip
def test_a_near_miss_does_nothing(path: str, rows: str) -> None:
    assert bench.by_analyser(diff(f"src/{path}", rows)) == set()


def test_a_function_that_something_else_named_was_in_use() -> None:
    gone = "-def safe(x):|-    if x is None:|-        return 0|-    return x.y"
    used = diff("src/a.py", gone + "| def f(x):|-    return safe(x)|+    return x.y")
    assert "nil" in bench.by_analyser(used)


@pytest.mark.parametrize(
    ("kind", "ref", "before", "after", "says"),
    [
        ("config", "C", '{"POOL":"20","A":"1"}', '{"POOL":"2","A":"1"}', "limit (POOL 20 → 2)"),
        ("config", "basket/timeout", "5s", "50ms", "timeout (timeout 5s → 50ms)"),
        ("config", "C", '{"i":"a=1\\ntimeout=5"}', '{"i":"a=1\\ntimeout=9"}', "timeout 5 → 9"),
        ("config", "motd", "hello", "welcome", "configured with (motd"),
        ("flag", "fast", "off", "on", "switches a feature (fast off → on)"),
    ],
)  # fmt: skip
def test_a_record_without_a_diff_says_what_it_does(
    kind: str, ref: str, before: str, after: str, says: str
) -> None:
    found = records.does(row(kind, 3, ref=ref, before=before, after=after))
    assert says in " ".join(map(str, found))


def test_values_of_secrets_are_not_shown() -> None:
    held = [f'{{"DB_PASSWORD": "{word}", "API_TOKEN": "{word}"}}' for word in ("tulip", "crocus")]
    found = records.does(row("config", 3, ref="C", before=held[0], after=held[1]))
    assert str(found[0]).endswith("(DB_PASSWORD, not shown; API_TOKEN, not shown)")


def test_pods_taken_away_by_themselves_are_room_taken_away_and_a_rollout_is_not() -> None:
    down = row("scale", 3, ref="x", message="Scaled down replica set basket-1 to 1 from 6")
    up = {**down, "message": "Scaled up replica set basket-2 to 6 from 5"}
    assert [str(act) for act in records.fewer([down])] == [
        "changes a pool's size or a limit (pods 6 → 1)"
    ]
    assert records.fewer([down, up]) == []
    assert records.fewer([row("deploy", 3, ref="basket@2"), down]) == []
    found = changes.rank([down], [changes.Suspect("basket", "capacity", None)], ONSET)
    assert found[0]["score"] >= changes.EXPLAINS


@pytest.mark.parametrize(
    ("path", "service", "of_it"),
    [
        ("src/basketservice/a.py", "basket", True),
        ("services/basket_service/a.py", "basket-service", True),
        ("apps/OrderLines/a.cs", "order-lines", True),
        ("k8s/basket-deployment.yaml", "basket", True),
        ("services/basket-worker/a.py", "basket", False),
        ("services/mybasket/a.py", "basket", False),
    ],
)
def test_a_service_is_known_by_its_folder_however_that_spells_it(
    path: str, service: str, of_it: bool
) -> None:
    assert stories.touches(row("commit", 9, service=None, files=[path]), service) is of_it


def test_of_a_commit_to_two_services_each_answers_for_its_own_files() -> None:
    both = f"{POOL}\n{diff('services/stock/a.py', '-    return x + 1|+    return y + 1')}"
    files = ["services/basket/db.py", "services/stock/a.py"]
    rows = [row("commit", 9, ref="a" * 40, service=None, files=files, diff=both)]
    for service, named in (("basket", True), ("stock", False)):
        found = changes.rank(rows, [changes.Suspect(service, "capacity", None)], ONSET)
        assert (found[0]["score"] >= changes.EXPLAINS) is named


def test_a_commit_takes_effect_when_its_own_service_is_rolled_out() -> None:
    sha = "b" * 40
    rows = [
        row("commit", 900, ref=sha, files=["services/basket/db.py"], diff=POOL),
        row("deploy", 600, ref="stock@5", service="stock", after=sha),
        row("deploy", 4, ref="basket@5", after=sha),
    ]
    found = changes.rank(rows, [changes.Suspect("basket", "capacity", None)], ONSET)
    assert (found[0]["effect"], found[0]["shipped"]) == (rows[2]["ts"], "basket@5")


def test_a_suspect_as_loud_as_the_first_may_be_explained_and_a_quieter_one_may_not() -> None:
    rows = [row("commit", 9, ref="c" * 40, diff=POOL)]
    for loud, named in ((0.6, True), (0.4, False)):
        asked = [
            changes.Suspect("stock", "exception", None, score=0.61),
            changes.Suspect("basket", "capacity", None, score=loud),
        ]
        assert (changes.rank(rows, asked, ONSET)[0]["score"] >= changes.EXPLAINS) is named


def test_what_ran_for_two_days_and_may_lead_to_other_faults_too_has_to_be_pointed_at() -> None:
    sha = "d" * 40
    rows = [row("commit", 3000, ref=sha, diff=POOL), row("deploy", 2900, ref="basket@5", after=sha)]
    stack = (signs.Frame("/app/basket/db.py", "connect", 11),)
    for frames, named in (((), False), (stack, True)):
        asked = [changes.Suspect("basket", "memory", None, frames=frames)]
        found = changes.rank(rows, asked, ONSET)
        assert (found[0]["score"] >= changes.EXPLAINS) is named


@pytest.mark.parametrize(("seconds", "named"), [(90, True), (150, False)])
def test_an_onset_a_little_early_does_not_clear_the_change(seconds: int, named: bool) -> None:
    rows = [row("deploy", -seconds / 60, ref="basket@5", after="e" * 40)]
    rows.append(row("commit", 30, ref="e" * 40, diff=POOL))
    found = changes.rank(rows, [changes.Suspect("basket", "capacity", None)], ONSET)
    assert (found[0]["score"] >= changes.EXPLAINS) is named
