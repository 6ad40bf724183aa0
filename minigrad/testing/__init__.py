"""Checks for what people write themselves, and for minigrad: instruments that say what they saw."""

from minigrad.testing.gradcheck import GradientReport, assert_gradients, gradcheck
from minigrad.testing.initializers import check_initializer
from minigrad.testing.metamorphic import NotApplicableError, check_network
from minigrad.testing.report import Property, Report

__all__ = [
    "GradientReport",
    "NotApplicableError",
    "Property",
    "Report",
    "assert_gradients",
    "check_initializer",
    "check_network",
    "gradcheck",
]
