"""Launchers and sweepers of other packages that have the names of ours, such as
hydra-submitit-launcher's: those in trialstack's `conf/` count, whatever else is installed.
"""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.plugins.search_path_plugin import SearchPathPlugin

from trialstack.core.configs import CONF


class SameNames(SearchPathPlugin):
    """Forgets what others have registered under the names of our options: Hydra would take it for
    their schemas. Other programs than trialstack's are left alone.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if str(CONF) not in [element.path for element in search_path.get_path()]:
            return
        for group in ("launcher", "sweeper"):
            for file in CONF.glob(f"hydra/{group}/**/*.yaml"):
                *groups, name = file.relative_to(CONF).parts
                registered = ConfigStore.instance().repo
                for part in groups:
                    registered = registered.get(part, {})
                registered.pop(name, None)
