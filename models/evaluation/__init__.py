"""Evaluation of lists: one pass over a log, test each event first, then learn it."""

from models.evaluation.metrics import RankMetrics, gini
from models.evaluation.plan import Plan, Protocol, Scored
from models.evaluation.prequential import Evaluation, Subject, run
from models.evaluation.report import report

__all__ = ["Evaluation", "Plan", "Protocol", "RankMetrics", "Scored", "Subject", "gini", "report", "run"]
