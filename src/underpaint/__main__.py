"""Run the command line as ``python -m underpaint``, which needs no script on the search path."""

from underpaint.cli import main

if __name__ == "__main__":
    main()
