"""Published matrices of PIGLET: internal modes of 4 beads at 298 K, eight auxiliary momenta.

GLE4MD's, as in i-PI's example h2o-piglet.4; Ceriotti, Manolopoulos, Phys. Rev. Lett. 109, 100604 (2012).
"""

import numpy as np

BEADS, TEMPERATURE = 4, 298.0
_DRIFT = {  # A above its diagonal, of which it is antisymmetric below; 1 / atomic units of time
    (0, 0): 7.566936336534e-6, (0, 1): 6.338019063098e-3, (0, 3): 1.060374810427e-2, (0, 5): 4.208955410918e-3,
    (0, 7): 8.082827448553e-5, (1, 1): 7.358306814484e-2, (1, 2): 2.945862869452e-2, (3, 3): 1.487651276141e-2,
    (3, 4): 5.463360757376e-3, (5, 5): 4.130761028108e-2, (5, 6): 1.462832567462e-2, (7, 7): 3.105282519359e-3,
    (7, 8): 1.090072581774e-3,
}  # fmt: skip
_COVARIANCE = [  # rows of C from the diagonal on, K
    [1974.745232194, -204.7141324480, -1465.776544626, 561.1692742600, 260.0211572322, -1099.491161786, -3093.580205740,
     -386.1032202200, -1067.404178368],
    [10875.75551624, 6.721323835e-9, 202.1884782970, 10.75739781622, -74.37996121940, -16.00458223938, -10.59816853114,
     2.076593606756],
    [10560.39393790, -580.0425818660, -175.2619163876, 32.23014416760, -662.5413068480, -56.11883191420,
     -235.2310083702],
    [866.2918193440, 3.799597914e-9, 171.6248402446, -1504.572868414, -286.4411056124, -41.91189710000],
    [1370.962657638, 561.9251682460, -1447.856743746, 210.0592360296, -2014.734930954],
    [23199.17706904, 2.896113582e-8, -19.31536922152, 4.385447956380],
    [22309.07239094, -58.85090774480, -320.9433686600],
    [70654.27000840, 1.240853152e-6],
    [70575.12257920],
]  # fmt: skip


def matrices() -> tuple[np.ndarray, np.ndarray]:
    """Return A (4, 9, 9) in 1 / atomic units of time and C (4, 9, 9) in K; mode 0 has white noise at 4 x 298 K."""
    A, C = np.zeros((9, 9)), np.zeros((9, 9))
    for (i, j), x in _DRIFT.items():
        A[j, i], A[i, j] = -x, x
    for i, row in enumerate(_COVARIANCE):
        C[i, i:] = C[i:, i] = row
    white = np.diag([1e-3] + [0.01] * 8), BEADS * TEMPERATURE * np.eye(9)
    return np.stack([white[0], A, A, A]), np.stack([white[1], C, C, C])
