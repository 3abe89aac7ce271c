"""Pages of docs/reference, generated from the code itself, so that they cannot fall behind it.

python -m fondaco.node.reference            writes them all
python -m fondaco.node.reference --check    says whether the files are current

No command needs these modules at run time; tests keep the committed files current.
"""

COMMAND = "python -m fondaco.node.reference"
