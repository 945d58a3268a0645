"""The statistics room: sufficient statistics in, answers or the reason for their absence out.

Map of the room, each file a few pure functions:

- ``moments``          count, mean and squared deviations of one per-user quantity, and how samples merge
- ``comoments``        the same of several quantities and how they vary together
- ``comparison``       treatment against control: proportions, means; the ``Effect`` they yield
- ``strata``           the same over strata, such as phases of different allocation
- ``ratio``            ratios of two quantities, by the delta method
- ``quantile``         quantiles, and the ranks that they and their variances need
- ``cuped``            adjusting for what was known before the exposure
- ``score``            score intervals of two proportions (difference and ratio)
- ``lift``             relative lift and Fieller's interval
- ``interval``         ``Interval``, and the interval of a single arm's value
- ``skewness``         third moments, and the users that a mean of skewed values wants
- ``tails``            p-values and critical values of the normal and t distributions
- ``sequential``       always-valid p-values and critical values
- ``groupsequential``  boundaries of planned looks that spend alpha
- ``bayesian``         chance to beat control and expected losses, of a normal posterior
- ``betabinomial``     the same, exactly, of shares
- ``thompson``         chance to be best, and an allocation that follows it
- ``srm``              sample ratio mismatch, at one look and at every look
- ``multiplicity``     Holm's and Benjamini and Hochberg's corrections
- ``noninferiority``   whether a guardrail is harmed, safe or neither
- ``heterogeneity``    whether an effect differs between groups
- ``power``            detectable effects, users needed, and the chance to find an effect
- ``calibration``      how many errors of a simulation chance allows
- ``confidence``       the words for evidence

No number is ever invented: where one does not exist the answer is None with a status.

Functions of SciPy are called by their whole name, ``scipy.special.ndtr``: SciPy loads the module at the first such call, so that
a server starts a quarter of a second sooner, and 20 MB smaller as long as nobody asks it for a result.
"""

from upshot.statistics.bayesian import Posterior, credible_interval, flat_prior, relative_posterior
from upshot.statistics.betabinomial import Beta, beta_posterior, compare_beta
from upshot.statistics.comoments import Comoments
from upshot.statistics.comparison import (
    Effect,
    Intervals,
    compare_means,
    compare_proportions,
    intervals_of,
    pooled_test,
    untested,
)
from upshot.statistics.confidence import p_value_of_chance, word
from upshot.statistics.cuped import Adjustment, adjust, adjust_ratio
from upshot.statistics.groupsequential import (
    Spending,
    boundaries,
    chance_to_cross,
    equivalent_critical_value,
    expected_share,
    looks_up_to,
    nominal_levels,
)
from upshot.statistics.heterogeneity import Heterogeneity, Interaction, heterogeneity, interaction
from upshot.statistics.interval import Interval, mean_interval, proportion_interval
from upshot.statistics.lift import fieller_interval
from upshot.statistics.moments import Moments
from upshot.statistics.multiplicity import benjamini_hochberg, holm
from upshot.statistics.noninferiority import Guardrail, non_inferiority
from upshot.statistics.power import (
    chance_to_find,
    days_needed,
    drift_of,
    drift_of_proportion,
    inflation_of,
    minimum_detectable_change,
    minimum_detectable_effect,
    users_needed,
    users_needed_non_inferiority,
    users_needed_proportion,
    users_per_arm,
)
from upshot.statistics.quantile import QuantileArm, clustering_factor
from upshot.statistics.ratio import ratio_arm
from upshot.statistics.sequential import (
    always_valid_critical_value,
    always_valid_one_sided_critical_value,
    always_valid_p_value,
    bernoulli_confidence_sequence,
)
from upshot.statistics.skewness import ThirdMoments, users_for_skewness
from upshot.statistics.srm import ALERT, SampleRatio, SequentialSampleRatio, sample_ratio, sequential_sample_ratio
from upshot.statistics.strata import compare_strata, post_stratified
from upshot.statistics.tails import normal_critical_value
from upshot.statistics.thompson import (
    chance_to_be_best_beta,
    chance_to_be_best_normal,
    integer_weights,
    next_allocation,
)

__all__ = [
    "ALERT",
    "Adjustment",
    "Beta",
    "Comoments",
    "Effect",
    "Guardrail",
    "Heterogeneity",
    "Interaction",
    "Interval",
    "Intervals",
    "Moments",
    "Posterior",
    "QuantileArm",
    "SampleRatio",
    "SequentialSampleRatio",
    "Spending",
    "ThirdMoments",
    "adjust",
    "adjust_ratio",
    "always_valid_critical_value",
    "always_valid_one_sided_critical_value",
    "always_valid_p_value",
    "benjamini_hochberg",
    "bernoulli_confidence_sequence",
    "beta_posterior",
    "boundaries",
    "chance_to_be_best_beta",
    "chance_to_be_best_normal",
    "chance_to_cross",
    "chance_to_find",
    "clustering_factor",
    "compare_beta",
    "compare_means",
    "compare_proportions",
    "compare_strata",
    "credible_interval",
    "days_needed",
    "drift_of",
    "drift_of_proportion",
    "equivalent_critical_value",
    "expected_share",
    "fieller_interval",
    "flat_prior",
    "heterogeneity",
    "holm",
    "inflation_of",
    "integer_weights",
    "interaction",
    "intervals_of",
    "looks_up_to",
    "mean_interval",
    "minimum_detectable_change",
    "minimum_detectable_effect",
    "next_allocation",
    "nominal_levels",
    "non_inferiority",
    "normal_critical_value",
    "p_value_of_chance",
    "pooled_test",
    "post_stratified",
    "proportion_interval",
    "ratio_arm",
    "relative_posterior",
    "sample_ratio",
    "sequential_sample_ratio",
    "untested",
    "users_for_skewness",
    "users_needed",
    "users_needed_non_inferiority",
    "users_needed_proportion",
    "users_per_arm",
    "word",
]
