"""Checks for ops, gradients and initializers, those of a user included."""

from minigrad.testing.initializers import check_initializer
from minigrad.testing.report import Property, Report

__all__ = ["Property", "Report", "check_initializer"]
