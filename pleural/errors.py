"""What cannot work, told in one sentence that names the file, the finding and the remedy."""

import re

# The line of a trace that names the error itself; what follows is its message.
RAISED = re.compile(r"^(?=\S)[\w.]*(Error|Exception|Findings): (?P<message>(?s:.*))", re.MULTILINE)


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
EXTRA_OF = {
    **{"einops": "transformers", "wandb": "wandb", "mlflow": "mlflow"},
    **{"onnx": "export", "onnxruntime": "export", "onnxscript": "export"},
    "optuna": "search",
}


def missing_package(error: ImportError) -> InputError:
    """The same in a sentence, with the command that mends it where we know it."""
    extra = next((extra for name, extra in EXTRA_OF.items() if name in str(error)), None)
    remedy = f": python -m pip install -c constraints.txt -e '.[{extra}]'" if extra else ""
    return InputError(one_line(error) + remedy)


def root_cause(error: BaseException) -> BaseException:
    """What was raised first, before frameworks wrapped it; an ``InputError`` says it all."""
    while error.__cause__ is not None and not isinstance(error, InputError):
        error = error.__cause__
    return error


def as_input_error(error: Exception, otherwise: str) -> InputError:
    """What a framework wrapped, as an error of ours.

    ``otherwise`` is told where the cause is no ``InputError`` and no missing package.
    """
    cause = root_cause(error)
    if isinstance(cause, InputError):
        return cause
    return missing_package(cause) if isinstance(cause, ImportError) else InputError(otherwise)


def said(error: BaseException) -> str:
    """Its message, without the trace that comes with it from a worker process of torch's.

    >>> said(ValueError("Caught ... in DataLoader worker process 0.\\nOriginal Traceback ...\\n"
    ...                 "pleural.errors.InputError: a.nii: is empty"))
    'a.nii: is empty'
    """
    message = str(error)
    head, _, trace = message.partition("\nOriginal Traceback")
    found = RAISED.search(trace) if "in DataLoader worker" in head else None
    return found["message"].strip() if found else message


def one_line(error: BaseException) -> str:
    """All that a library says of an error, on one line; its kind where it says nothing."""
    return " ".join(said(error).split()) or type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of what it says, for those that go on with a trace of their own."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
