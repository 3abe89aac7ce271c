"""`python -m fondaco.node.reference`."""

from fondaco.node.reference.writing import main

if __name__ == "__main__":
    raise SystemExit(main())
