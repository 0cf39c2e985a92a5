"""`conf/` in the working folder comes before the configs that trialstack brings."""

from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from trialstack.core.configs import CONF


class OwnConfigs(SearchPathPlugin):
    """Adds to and overrides the options of groups; other programs than trialstack's are left
    alone.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        own = Path("conf").resolve()
        paths = [element.path for element in search_path.get_path()]
        if str(CONF) in paths and own != CONF and own.is_dir():
            search_path.prepend("own", f"file://{own}", anchor="main")
