"""`python -m tts` is the command line `tts`."""

from ._cli import main

main()
