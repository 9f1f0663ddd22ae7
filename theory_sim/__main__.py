"""`python -m theory_sim` is the command `theory-sim`."""

from theory_sim.cli import main

if __name__ == "__main__":
    main()
