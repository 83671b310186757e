"""The type checker that the tests put around every function of the package."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int may stand where a float is asked for
