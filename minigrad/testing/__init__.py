"""Checks for what people write themselves, and for minigrad: instruments that say what they saw."""

from minigrad.testing.gradcheck import GradientReport, assert_gradients, gradcheck
from minigrad.testing.initializers import check_initializer
from minigrad.testing.modules import check_module
from minigrad.testing.ops import check_op
from minigrad.testing.optimizers import check_optimizer
from minigrad.testing.report import Property, Report

__all__ = [
    "GradientReport",
    "Property",
    "Report",
    "assert_gradients",
    "check_initializer",
    "check_module",
    "check_op",
    "check_optimizer",
    "gradcheck",
]
