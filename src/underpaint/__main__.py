"""Run the command line by ``python -m underpaint``, without a script on the search path."""

from underpaint.cli import main

if __name__ == "__main__":
    main()
