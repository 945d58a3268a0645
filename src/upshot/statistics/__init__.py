"""The statistics room: sufficient statistics in, answers or the reason for their absence out.

Map of the room, each file a few pure functions:

- ``moments``       count, mean and squared deviations of one per-user quantity, and how samples merge
- ``comparison``    treatment against control: proportions, means, strata; the ``Effect`` they yield
- ``score``         score intervals of two proportions (difference and ratio)
- ``lift``          relative lift and Fieller's interval
- ``interval``      ``Interval``, and the interval of a single arm's value
- ``tails``         p-values and critical values of the normal and t distributions
- ``sequential``    always-valid p-values and critical values
- ``bayesian``      chance to beat control and expected losses
- ``srm``           sample ratio mismatch
- ``multiplicity``  Holm's correction
- ``power``         detectable effects and users needed
- ``confidence``    the words for evidence

No number is ever invented: where one does not exist the answer is None with a status.
"""

from upshot.statistics.bayesian import Posterior, credible_interval, flat_prior
from upshot.statistics.comparison import Effect, compare_means, compare_proportions, compare_strata
from upshot.statistics.confidence import p_value_of_chance, word
from upshot.statistics.interval import Interval, mean_interval, proportion_interval
from upshot.statistics.moments import Moments
from upshot.statistics.multiplicity import holm
from upshot.statistics.power import minimum_detectable_effect, users_needed, users_needed_proportion
from upshot.statistics.sequential import (
    always_valid_critical_value,
    always_valid_level,
    always_valid_p_value,
)
from upshot.statistics.srm import ALERT, SampleRatio, sample_ratio
from upshot.statistics.tails import log10_p_value

__all__ = [
    "ALERT",
    "Effect",
    "Interval",
    "Moments",
    "Posterior",
    "SampleRatio",
    "always_valid_critical_value",
    "always_valid_level",
    "always_valid_p_value",
    "compare_means",
    "compare_proportions",
    "compare_strata",
    "credible_interval",
    "flat_prior",
    "holm",
    "log10_p_value",
    "mean_interval",
    "minimum_detectable_effect",
    "p_value_of_chance",
    "proportion_interval",
    "sample_ratio",
    "users_needed",
    "users_needed_proportion",
    "word",
]
