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


# Which extra of pyproject.toml brings a package that only some options need.
EXTRA_OF = {"einops": "transformers", "wandb": "wandb", "mlflow": "mlflow"}


def missing_package(error: ImportError) -> InputError:
    """The same in a sentence, with the command that mends it where we know it."""
    extra = next((extra for name, extra in EXTRA_OF.items() if name in str(error)), None)
    remedy = f": python -m pip install -c constraints.txt -e '.[{extra}]'" if extra else ""
    return InputError(" ".join(str(error).split()) + remedy)


def root_cause(error: BaseException) -> BaseException:
    """What was raised first, before frameworks wrapped it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
