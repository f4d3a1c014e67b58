"""`python -m ppgen` is the command `ppgen`."""

from ppgen.cli import main

if __name__ == "__main__":
    main()
