"""Physical constants (CODATA 2018) in the project's units: Å, eV, amu, K; time in fs at the interface.

Inside, momenta are used with the time unit Å (amu/eV)^(1/2), so that p^2/m is in eV without factors.
"""

kB = 8.617333262e-5  # eV/K
hbar = 6.582119569e-16  # eV s
amu = 1.66053906660e-27  # kg
e = 1.602176634e-19  # C
fs = 1e-15 / (1e-10 * (amu / e) ** 0.5)  # one femtosecond in Å (amu/eV)^(1/2): 1/10.18051
ps = 1000 * fs
GPa = 1 / 160.2176634  # one gigapascal in eV/Å^3
bar = 1e-4 * GPa
coulomb = 14.3996454784255  # e^2 / (4 pi eps0) in eV Å
hartree = 27.211386245988  # eV
bohr = 0.529177210903  # Å
kcal_per_mol = 0.0433641042418009  # eV
THz = 1e12 * 2 * 3.141592653589793 * (1e-10 * (amu / e) ** 0.5)  # 1 THz as an angular frequency in (eV/amu)^(1/2)/Å
