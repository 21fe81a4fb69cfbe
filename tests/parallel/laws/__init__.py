"""Laws: what must hold on every rank, whatever the number of ranks.

A law is a function of a communicator, which all ranks call together. ``run_laws.py`` runs them under mpirun.
"""
