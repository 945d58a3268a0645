"""Settings of the process itself."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings


class ProcessSettings(BaseSettings):
    """Its folder, its address, what it says."""

    data_dir: Path = Field(Path("upshot-data"), description="Folder of the embedded stores and of the first token.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    ofrep_exposes: bool = Field(
        default=True,
        description="Whether one flag that is evaluated over OpenFeature's protocol is an exposure in the experiment that drives "
        "it. All flags at once never are.",
    )
    log_level: str = Field(
        "warning",
        pattern="^(debug|info|warning|error)$",
        description="How much is logged; the security log is whole at any level.",
    )
    log_format: str = Field("text", pattern="^(text|json)$", description="Lines of text, or a JSON object each.")
