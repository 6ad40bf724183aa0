"""Floor 3: recorded steps, replayed natively by the kernels that they ran with, so with the same bits."""

from minigrad.compiler.program import Program
from minigrad.compiler.step import Compiled, CompileError, History, Progress, compile
from minigrad.compiler.trace import TraceError

__all__ = ["CompileError", "Compiled", "History", "Program", "Progress", "TraceError", "compile"]
