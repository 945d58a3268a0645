"""Calibration: whether results keep their promises, found out by simulating experiments whose truth is known.

- ``checks``      how often something happened, how often it may, and whether chance explains the difference
- ``population``  users to draw from, made up or resampled from real ones, and what an event store would report of those drawn
- ``planning``    the lift that a planned size shows, and the power that a lift has there
- ``design``      what is simulated, and the experiment that it is: phases, plan, questions, planned looks
- ``store``       who came on which day, and what an event store reports of them at its end
- ``simulation``  experiments without and with an effect, judged at every look by the same code as real ones

Pure: seeds come in, counts come out. Nothing here judges an experiment by itself; that is what is being tested.
"""

from upshot.calibration.checks import Check, at_most, exactly, unpromised
from upshot.calibration.design import Design
from upshot.calibration.population import Population, resampled, synthetic
from upshot.calibration.simulation import Simulation, Tally

__all__ = [
    "Check",
    "Design",
    "Population",
    "Simulation",
    "Tally",
    "at_most",
    "exactly",
    "resampled",
    "synthetic",
    "unpromised",
]
