"""Retention: how long recordings, output files, evidence and events are kept."""

from typing import Annotated

from pydantic import Field

from .values import Section

Days = Annotated[float, Field(gt=0, le=36_500)]
Gigabytes = Annotated[float, Field(gt=0)]


class RecordingRetention(Section):
    """Continuous recordings of all cameras together, besides the limits of each (`record`)."""

    max_age_days: Days | None = None
    """Recordings older than this are deleted. `null`: only the limits of each camera apply."""

    max_gb: Gigabytes | None = None
    """Maximum size of all recordings; the oldest are deleted first. `null`: no limit."""


class OutputRetention(Section):
    """Numbered files of `outputs.file`, of each camera by itself."""

    max_age_days: Days | None = 30
    """Files older than this are deleted. `null`: no limit."""

    max_gb: Gigabytes | None = 50
    """Maximum size of the files of one camera; the oldest are deleted first. `null`: no limit."""


class EvidenceRetention(Section):
    """Evidence of alarms: stills, masks and clips. The events stay."""

    max_age_days: Days | None = 365
    """Evidence older than this is deleted. `null`: no limit."""

    max_gb: Gigabytes | None = 50
    """Maximum size of all evidence; the oldest is deleted first. `null`: no limit."""


class EventRetention(Section):
    """Events with their deliveries; what is left of their evidence goes with them."""

    max_age_days: Days | None = 1095
    """Events older than this are deleted. `null`: no limit."""

    max_gb: Gigabytes | None = 2
    """Maximum size of all events; the oldest are deleted first. `null`: no limit."""


class RetentionSettings(Section):
    """How long files and events are kept. Alarms that are open, held or unsent always stay."""

    min_free_gb: Annotated[float, Field(ge=0)] = 2
    """If less disk space is free (on small disks: a tenth), the oldest recordings of all cameras
    are deleted, then the oldest output files. At half of it, recording pauses."""

    recordings: RecordingRetention = RecordingRetention()
    """Continuous recordings of all cameras together, besides the limits of each (`record`)."""

    outputs: OutputRetention = OutputRetention()
    """Numbered files of `outputs.file`, of each camera by itself."""

    evidence: EvidenceRetention = EvidenceRetention()
    """Evidence of alarms: stills, masks and clips. The events stay."""

    events: EventRetention = EventRetention()
    """Events with their deliveries; what is left of their evidence goes with them."""
