"""Looking at a tape: as a page to step through, where numbers go wrong, and what an op means."""

from minigrad.explorer import notebook as notebook
from minigrad.explorer.anomaly import AnomalyError, detect_anomaly
from minigrad.explorer.explain import explain
from minigrad.explorer.page import Film, explore, film

__all__ = ["AnomalyError", "Film", "detect_anomaly", "explain", "explore", "film"]
