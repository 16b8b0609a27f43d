"""Any local transformers model directory, or a model of the Hugging Face hub, as a base."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from variants.loading import config_of, need_transformers, weight_bytes
from variants.method import STRICT, Say, Stage


@dataclass(frozen=True, config=STRICT)
class HfDir:
    """The directory `path` used where it lies, never copied or changed; or hub model `path` at `revision`.

    The identity of what is built on it includes the content of the directory's files, so a changed model is
    another variant. Weights must be safetensors; code that comes with a model is never run.
    """

    path: Annotated[str, Field(min_length=1)]
    hub_revision: str = "main"
    stage: ClassVar[Stage] = "base"
    revision: ClassVar[int] = 1
    on_disk: ClassVar[tuple[str, ...]] = ("path",)

    @property
    def is_fetched(self) -> bool:
        """Whether `path` may be the name of a model of the hub, where no folder has it."""
        return not self.path.startswith((".", "/", "~")) and self.path.count("/") <= 1

    def make(self, directory: Path, say: Say) -> Path:
        local = Path(self.path).expanduser().resolve()
        found = local if local.is_dir() else self._download(say)
        config_of(found)
        if not weight_bytes(found):
            raise BadInput(f"{found} holds no *.safetensors weights. Convert them with save_pretrained first.")
        return found

    def _download(self, say: Say) -> Path:
        if not self.is_fetched:
            raise BadInput(f"There is no directory {self.path}.")
        need_transformers()
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        say(f"fetching {self.path} from the hub")
        wanted = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]
        try:
            return Path(snapshot_download(self.path, revision=self.hub_revision, allow_patterns=wanted))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as wrong:
            reason = str(wrong).splitlines()[0]
            raise BadInput(f"{self.path} is no directory here and cannot be fetched from the hub: {reason}") from wrong
