"""What cannot work, told in one sentence that names the file, the finding and the remedy."""


class InputError(ValueError):
    """Bad input from outside: a file, a folder or a setting. Shown without a traceback."""


class Findings(InputError):
    """Several bad inputs at once, so that they can be mended in one go.

    ``findings`` holds one sentence for each.
    """

    def __init__(self, title: str, findings: list[str]) -> None:
        self.findings = findings
        super().__init__("\n".join([title, *(f"  - {finding}" for finding in findings)]))
