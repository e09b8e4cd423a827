"""Objects and events as the Kubernetes API returns them."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from sample_data.generator.shop import Topology
from sample_data.generator.simulate import Pod, Recording, utc
from sample_data.generator.story import Scenario
from sample_data.generator.write.file import Row, put, stamp


def kubernetes(folder: Path, topology: Topology, pieces: list[tuple[Scenario, Recording]]) -> None:
    """What `kubectl get … -o json` printed of each cluster after each incident, in one list each."""
    for cluster in topology.clusters:
        lists: dict[str, list[Row]] = defaultdict(list)
        for scenario, recording in pieces:
            _objects(lists, cluster, scenario, recording)
        for kind, items in sorted(lists.items()):
            unique = {json.dumps(item, sort_keys=True): item for item in items}
            body = {"apiVersion": "v1", "kind": f"{kind}List", "items": list(unique.values())}
            name = {"ConfigMap": "configmaps"}.get(kind, f"{kind.lower()}s")
            put(folder / cluster / "k8s" / f"{name}.json", json.dumps(body, indent=1) + "\n")


def _objects(
    lists: dict[str, list[Row]], cluster: str, scenario: Scenario, recording: Recording
) -> None:
    mine = [pod for pod in recording.pods.values() if pod.cluster == cluster]
    released = {
        deploy.service: deploy for deploy in scenario.deploys if deploy.cluster in (None, cluster)
    }
    for pod in mine:
        deploy = released.get(pod.service)
        started = deploy.at if deploy else utc(scenario.start.timestamp() - 90_000)
        lists["Pod"].append(_pod(pod, stamp(started.timestamp())))
        if deploy:
            lists["ReplicaSet"] += _replica_sets(
                pod, deploy.version, deploy.message or deploy.commit, started.timestamp(), scenario
            )
            lists["Event"].append(
                _k8s_event(
                    pod,
                    "ScalingReplicaSet",
                    f"Scaled up replica set {pod.name.rsplit('-', 1)[0]} to 1",
                    started.timestamp(),
                    "Deployment",
                    pod.service,
                )
            )
    for node in sorted({pod.node for pod in mine}):
        lists["Node"].append(
            {
                "metadata": {
                    "name": node,
                    "labels": {"topology.kubernetes.io/zone": f"{cluster}{node[-1]}"},
                },
                "status": {
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "capacity": {"cpu": "8", "memory": "32Gi"},
                },
            }
        )
    noise = mine[0]
    lists["Event"].append(
        _k8s_event(
            noise,
            "Unhealthy",
            "Readiness probe failed: context deadline exceeded",
            scenario.start.timestamp() + 540,
            "Pod",
            noise.name,
        )
    )


def _pod(pod: Pod, started: str) -> Row:
    return {
        "metadata": {
            "name": pod.name,
            "namespace": "shop",
            "uid": pod.uid,
            "labels": {"app": pod.service},
            "creationTimestamp": started,
        },
        "spec": {
            "nodeName": pod.node,
            "containers": [
                {
                    "name": "app",
                    "image": f"shop/{pod.service}:{pod.version}",
                    "resources": {
                        "limits": {"cpu": "500m", "memory": "512Mi"},
                        "requests": {"cpu": "100m", "memory": "256Mi"},
                    },
                }
            ],
        },
        "status": {
            "phase": "Running",
            "startTime": started,
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": started}],
            "containerStatuses": [
                {
                    "name": "app",
                    "ready": True,
                    "restartCount": 0,
                    "image": f"shop/{pod.service}:{pod.version}",
                    "state": {"running": {"startedAt": started}},
                }
            ],
        },
    }


def _replica_sets(pod: Pod, version: str, cause: str, at: float, scenario: Scenario) -> list[Row]:
    from sample_data.generator.shop import SHOP

    template = pod.name.rsplit("-", 1)[0]
    old = SHOP.versions.get(pod.service, "0")
    day = scenario.start.day

    def one(name: str, image: str, when: float, revision: int, why: str) -> Row:
        return {
            "metadata": {
                "name": name,
                "namespace": "shop",
                "creationTimestamp": stamp(when),
                "ownerReferences": [{"kind": "Deployment", "name": pod.service}],
                "annotations": {
                    "deployment.kubernetes.io/revision": str(revision),
                    "kubernetes.io/change-cause": why,
                },
            },
            "spec": {
                "replicas": 1,
                "template": {"spec": {"containers": [{"name": "app", "image": image}]}},
            },
        }

    return [
        one(
            f"{pod.service}-old{day}",
            f"shop/{pod.service}:{old}",
            at - 950_000,
            day - 1,
            f"release {old}",
        ),
        one(template, f"shop/{pod.service}:{version}", at, day, cause),
    ]


def _k8s_event(pod: Pod, reason: str, message: str, at: float, kind: str, name: str) -> Row:
    return {
        "metadata": {"name": f"{name}.{int(at):x}", "namespace": "shop"},
        "involvedObject": {"kind": kind, "name": name, "namespace": "shop"},
        "reason": reason,
        "message": message,
        "type": "Warning" if reason == "Unhealthy" else "Normal",
        "lastTimestamp": stamp(at),
        "source": {
            "component": "kubelet" if kind == "Pod" else "deployment-controller",
            "host": pod.node,
        },
    }
