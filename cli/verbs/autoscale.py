"""`autoscale`: a HorizontalPodAutoscaler for something that can be scaled."""

from __future__ import annotations

from typing import Annotated

import typer

from kubeling.api.resources import Resource
from kubeling.cli import flags
from kubeling.cli.report import Reporter
from kubeling.cli.session import CommandError, Obj, Session
from kubeling.cli.targets import chosen, targets_of

HPAS = Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", namespaced=True)


async def autoscale(
    session: Session,
    words: flags.Words = None,
    filename: flags.Filenames = None,
    minimum: Annotated[int, typer.Option("--min", help="At least so many pods.")] = -1,
    maximum: Annotated[int, typer.Option("--max", help="At most so many pods.")] = -1,
    cpu_percent: Annotated[
        int, typer.Option("--cpu-percent", help="How much of the CPU that is asked for they should use, in percent.")
    ] = -1,
    name: Annotated[str, typer.Option("--name", help="The autoscaler's name; that of the object where it is left out.")] = "",
    form: flags.Output = "",
    dry_run: flags.DryRun = "none",
    field_manager: flags.FieldManager = "kubectl-autoscale",
) -> int:
    """Let the number of pods follow their use: `kubeling autoscale deploy/web --min=2 --max=10 --cpu-percent=80`."""
    if maximum == -1:
        raise CommandError('required flag(s) "max" not set')
    if maximum < 1:
        raise CommandError("--max=MAXPODS is required and must be at least 1, max: " + str(maximum))
    if maximum < minimum:
        raise CommandError(f"--max=MAXPODS must be larger or equal to --min=MINPODS, max: {maximum}, min: {minimum}")
    params = flags.write_params(dry_run, field_manager)
    reporter = Reporter(form, dry_run=dry_run)
    for resource, obj in await chosen(session, await targets_of(session, words or [], filenames=filename or [], need_names=True)):
        if resource.subresource("scale") is None:
            raise CommandError(f"cannot autoscale a {resource.kind}")
        target = {"apiVersion": resource.group_version, "kind": resource.kind, "name": obj["metadata"]["name"]}
        spec: Obj = {"maxReplicas": maximum, "scaleTargetRef": target}
        if minimum > 0:
            spec["minReplicas"] = minimum
        if cpu_percent >= 0:
            use = {"type": "Utilization", "averageUtilization": cpu_percent}
            spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": use}}]
        made: Obj = {
            "apiVersion": HPAS.group_version,
            "kind": HPAS.kind,
            "metadata": {"name": name or obj["metadata"]["name"]},
            "spec": spec,
        }
        if dry_run != "client":
            made = await session.client.create(HPAS, made, obj["metadata"].get("namespace"), params=params)
        reporter.done(HPAS, made, "autoscaled")
    return 0
