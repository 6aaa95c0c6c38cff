"""Rows: the weights that one worker learns for all."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import SELECT, Panel, Query, Row
from deploy.grafana.queries import rate

_MAKES_LISTS: Final = f'and on (job, instance) freshet_model_size{{{SELECT}, part="users"}}'

WEIGHTS: Final = Row(
    "Weights",
    (
        Panel(
            "Who trains for all",
            "The owner of partition 0 of the interactions log. None for minutes: runbook FreshetNobodyTrains. Two: for "
            "a moment after one has frozen, or while workers of two layouts run side by side (an upgrade).",
            "short",
            [Query(f"freshet_weights_trainer{{{SELECT}}} {_MAKES_LISTS}", "{{job}} {{instance}}")],
            width=6,
        ),
        Panel(
            "Steps of training in the weights",
            "The same in every worker but for a second or so. It stands still while nothing is bought or clicked; one line "
            "that stays behind the others belongs to a worker whose weights are ignored (next panel).",
            "short",
            [Query(f"freshet_weights_steps{{{SELECT}}} {_MAKES_LISTS}", "{{job}} {{instance}}")],
            width=6,
        ),
        Panel(
            "Versions of the weights by outcome",
            "Published by the trainer every FRESHET_WEIGHTS_INTERVAL_S in which they changed, adopted by the others. Stale: a "
            "worker was frozen. Foreign: workers with other sources run beside these. Damaged: somebody else writes there. "
            "Beside it how many people the trainer has learned something about and said so.",
            "reqps",
            [
                Query(rate("freshet_weights_total", "outcome"), "{{outcome}}"),
                Query(rate("freshet_trusts_total", "job"), "people"),
            ],
            width=6,
        ),
        Panel(
            "Age of the weights",
            "Since they were published. It grows while nothing happens; while people buy and click it is near "
            "FRESHET_WEIGHTS_INTERVAL_S, else the trainer cannot publish: see its log.",
            "s",
            [
                Query(f"time() - freshet_weights_timestamp_seconds{{{SELECT}}} {_MAKES_LISTS}", "{{job}} {{instance}}"),
            ],
            width=3,
        ),
        Panel(
            "Size of a version",
            "What goes to every worker each time. Mostly contexts with rows of their own (FRESHET_MODEL_CONTEXT_VALUES).",
            "bytes",
            [Query(f"max by (job) (freshet_weights_bytes{{{SELECT}}})", "{{job}}")],
            width=3,
        ),
    ),
)
