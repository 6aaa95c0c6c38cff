"""Rows: are the lists good? Test then learn, click-through, variety, drift."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import JOB, SELECT, Panel, Query, Row
from deploy.grafana.queries import RATE, rate, total


def ratio(part: str, whole: str, by: str, matchers: str = "") -> str:
    """Of one counter over another, by labels; no sample while nothing happens."""
    return f"{rate(part, by, matchers)} / ({rate(whole, by, matchers)} > 0)"


TESTS: Final = Row(
    "Test then learn: does the next item stand in the list?",
    (
        Panel(
            "Hit rate: the list that was out, the list of now",
            "Share of tests whose item stood in the list. served: in the list that was out, what people had; fused: in "
            "the list that would be made at that moment. served below fused: lists are late (freshness) or the language "
            "stage reorders badly. Both fall: see the sources below. Runbook: FreshetHitRateFell.",
            "percentunit",
            [
                Query(
                    ratio("freshet_quality_hits_total", "freshet_quality_tests_total", "source", 'source=~"served|fused"'),
                    "{{source}}",
                ),
                Query(f'job_source:freshet_hit_rate:ratio_rate1d{{{JOB}, source="served"}}', "served, 1 d"),
            ],
            width=12,
        ),
        Panel(
            "NDCG: the list that was out, the list of now",
            "As the hit rate, but a hit counts less further down: 1 / log2(place + 1). It falls while the hit rate stays: "
            "the right items stand too low; look at what was changed in the fusion or in rules (boost, pin).",
            "percentunit",
            [
                Query(
                    ratio("freshet_quality_gain_total", "freshet_quality_tests_total", "source", 'source=~"served|fused"'),
                    "{{source}}",
                )
            ],
            width=12,
        ),
        Panel(
            "Hit rate by source, 1 h",
            "What each source's own list would have hit, beside served and fused. A source at 0 contributes nothing: text "
            "without vectors (FreshetForeignVectors, FreshetEmbedderBehind), content without a catalogue. fused below its "
            "best source for long: its weights have not learned yet, or FRESHET_TRAINING_PER_S is too low.",
            "percentunit",
            [Query(f"job_source:freshet_hit_rate:ratio_rate1h{{{JOB}}}", "{{source}}", instant=True)],
            kind="bargauge",
            height=10,
        ),
        Panel(
            "NDCG by source, 1 h",
            "As beside, with the place counted. A source that has much hit rate and little NDCG finds the right items but "
            "orders them badly, which the fusion mends.",
            "percentunit",
            [Query(f"job_source:freshet_ndcg:ratio_rate1h{{{JOB}}}", "{{source}}", instant=True)],
            kind="bargauge",
            height=10,
        ),
        Panel(
            "Tests",
            "Tests per second: served counts every event that could be one, the others a sample of FRESHET_QUALITY_PER_S. "
            "None while events come: the replica is not at the head of the log (Pipeline), or people only come back to "
            "what they have.",
            "reqps",
            [Query(rate("freshet_quality_tests_total", "source", 'source=~"served|fused"'), "{{source}}")],
            height=10,
        ),
    ),
)

CLICKS: Final = Row(
    "Click-through rate",
    (
        Panel(
            "CTR by arm",
            "By cohort (each shown item once, when its window is over) over an hour and a day, and as clicks come (5 "
            "min). Decide by the cohorts; the other moves with the traffic. All arms fall: hit rate above, freshness. One "
            "arm: it is worse. Runbook: FreshetCtrFell.",
            "percentunit",
            [
                Query(f"job_arm:freshet_cohort_ctr:ratio_rate1h{{{JOB}}}", "{{arm}}, cohorts of 1 h"),
                Query(f"job_arm:freshet_cohort_ctr:ratio_rate1d{{{JOB}}}", "{{arm}}, cohorts of 1 d"),
                Query(f"job_arm:freshet_ctr:ratio_rate5m{{{JOB}}}", "{{arm}}, as it comes, 5 min"),
                Query(f"job_arm:freshet_ctr:ratio_rate1h{{{JOB}}}", "{{arm}}, as it comes, 1 h"),
            ],
        ),
        Panel(
            "CTR by position and arm, 1 h",
            "By cohort. It falls from position to position. Flat: positions are not those on the screen, or lists are not "
            "ranked. Only the first: the platform shows less than it is sent.",
            "percentunit",
            [Query(f"job_arm_position:freshet_cohort_ctr:ratio_rate1h{{{JOB}}}", "{{arm}}, {{position}}", instant=True)],
            kind="bargauge",
        ),
        Panel(
            "Clicks: attributed, and why not",
            "not_in_list is people finding things elsewhere; no_list: they were served nothing; outside_window: "
            "FRESHET_ATTRIBUTION_WINDOW_S is too short for this shop. Runbook: FreshetAttributionLost.",
            "reqps",
            [
                Query(total("freshet_clicks_attributed_total"), "attributed"),
                Query(rate("freshet_clicks_unattributed_total", "reason"), "{{reason}}"),
            ],
            stack=True,
        ),
        Panel(
            "Items shown",
            "Items per second, by where we know it from. Platform impressions that stop make the CTR jump, as it is then "
            "measured on served lists. Unknown lists: impressions come later than FRESHET_SERVED_LISTS_PER_USER remembers.",
            "reqps",
            [
                Query(rate("freshet_impressions_total", "origin"), "{{origin}}"),
                Query(total("freshet_impressions_unknown_total"), "of an unknown list"),
            ],
        ),
        Panel(
            "Cohorts closed",
            "Shown items per second whose window is over, and the clicked ones among them. None for longer than "
            "FRESHET_COHORT_WINDOW_S after a start while lists go out: are clicks and impressions of the same users on "
            "this worker (platforms must key them by user)?",
            "reqps",
            [
                Query(rate("freshet_cohort_shown_total", "origin"), "{{origin}}, shown"),
                Query(rate("freshet_cohort_clicked_total", "origin"), "{{origin}}, clicked"),
            ],
        ),
        Panel(
            "Share of lists followed as cohorts",
            "1: all of them. Less is a fair sample, taken because more lists are shown within FRESHET_COHORT_WINDOW_S than "
            "FRESHET_COHORT_LISTS; raise it only if the hourly figures are too noisy (about 0.2 kB a list).",
            "percentunit",
            [Query(f"freshet_cohort_share{{{SELECT}}} > 0", "{{instance}}")],
            maximum=1,
        ),
    ),
)

VARIETY: Final = Row(
    "Variety",
    (
        Panel(
            "Coverage: share of the catalogue in recent lists",
            "Different items in a worker's last 2,000 lists (of those looked at), over the items it knows. Falling: lists "
            "become alike; compare the hit rate of popularity with the others; places for newcomers and "
            "diversity bring others in (docs/reranking.md).",
            "percentunit",
            [
                Query(
                    f'freshet_recent_items{{{SELECT}}} / on (job, instance) (freshet_model_size{{{SELECT}, part="items"}} > 0)',
                    "{{instance}}",
                )
            ],
        ),
        Panel(
            "Unevenness of what is shown",
            "Gini coefficient over the catalogue, of the same lists: 0 all items alike, 1 one item alone. Rising with "
            "falling coverage: a few items crowd out the rest; look for a rule (boost, pin) or a campaign.",
            "percentunit",
            [Query(f"freshet_recent_gini{{{SELECT}}} > 0", "{{instance}}")],
            maximum=1,
        ),
        Panel(
            "Diversity within a list",
            "Mean of 1 - similarity of a list's items, by categories where the catalogue has them, else by text. Falling: "
            "lists of one kind; FRESHET_MODEL_DIVERSITY and caps trade score for variety (docs/reranking.md). And how "
            "many lists it is over.",
            "percentunit",
            [
                Query(
                    f"sum by (job) (rate(freshet_list_diversity_sum{{{SELECT}}}{RATE})) "
                    f"/ (sum by (job) (rate(freshet_list_diversity_count{{{SELECT}}}{RATE})) > 0)",
                    "{{job}}",
                )
            ],
            maximum=1,
        ),
        Panel(
            "Lists looked at",
            "How many recent lists the two left panels are over, by worker; at most 2,000. Few: the worker has just "
            "started, read coverage with care.",
            "short",
            [Query(f"freshet_recent_lists{{{SELECT}}} > 0", "{{instance}}")],
            width=24,
            height=5,
        ),
    ),
)

DRIFT: Final = Row(
    "Drift",
    (
        Panel(
            "Changes noticed",
            "Times per second at which the detector has found that a rate changed, by direction. Rates move with the hour "
            "of the day too: a change is a question, not an answer. down, with a fall above: FreshetHitRateFell, "
            "FreshetCtrFell.",
            "reqps",
            [Query(rate("freshet_drift_total", "signal, direction"), "{{signal}} {{direction}}")],
        ),
        Panel(
            "Rate since its last change",
            "What the detector takes for the rate of now, by worker. Workers apart from each other: one of them is stale "
            "(Pipeline, behind the log), or its users differ.",
            "percentunit",
            [
                Query(
                    f"freshet_drift_mean{{{SELECT}}} and on (job, instance, signal) freshet_drift_window{{{SELECT}}} > 0",
                    "{{instance}} {{signal}}",
                )
            ],
        ),
        Panel(
            "Outcomes since the last change",
            "How many tests (hit_rate) or lists (ctr) that rate is over. It falls where a change was noticed and then "
            "grows. It never grows: the rate is restless, or nothing is tested.",
            "short",
            [Query(f"freshet_drift_window{{{SELECT}}} > 0", "{{instance}} {{signal}}")],
        ),
    ),
)
