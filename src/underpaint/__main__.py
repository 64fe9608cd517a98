"""``python -m underpaint``: the command line without its script on the path."""

from underpaint.cli import main

if __name__ == "__main__":
    main()
