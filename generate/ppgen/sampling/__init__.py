"""Pure functions: solvers, schedules and guidance."""

from ppgen.sampling import schedules
from ppgen.sampling.schedules import Schedule
from ppgen.sampling.solvers import SOLVERS, Guidance, guidance_levels
