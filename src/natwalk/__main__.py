"""``python -m natwalk`` is the ``natwalk`` command."""

from natwalk.cli import main

if __name__ == "__main__":
    main()
