"""Ratings predicted from neighbours: UserCF and ItemCF over mean-centred opinions; T-UserCF and T-ItemCF look at words, too.

    p(u, i) = mean_u + sum_v w(u, v) (r_vi - mean_v) / sum_v |w(u, v)|    over the K raters v of i most similar to u
    p(u, i) = mean_i + sum_j w(i, j) (r_uj - mean_j) / sum_j |w(i, j)|    over the K items j rated by u most similar to i
    w       = (1 - a) cf + a cos(text)

`Raters` follows the history and knows who has rated an item, `Neighbours` answers from the windows, `TextProfiles` holds the
running means of what users wrote and of what was written about items. `Residuals` puts neighbours on top of shrunk biases.
"""

from models.rating_neighbours.neighbours import Around, Neighbours, Prediction
from models.rating_neighbours.raters import Raters
from models.rating_neighbours.residuals import Residuals
from models.rating_neighbours.texts import TextProfiles

__all__ = ["Around", "Neighbours", "Prediction", "Raters", "Residuals", "TextProfiles"]
