"""`python -m pptrain` is the command `pptrain`."""

from pptrain.cli import main

if __name__ == "__main__":
    main()
