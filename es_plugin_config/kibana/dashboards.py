"""Every dashboard, in the order of their links: what a relevance engineer looks at.

Nothing here says how Kibana stores it. After a change, `python -m es_plugin_config.kibana` writes
the saved objects anew.
"""

from __future__ import annotations

from es_plugin_config.kibana.outcome_dashboards import EXPERIMENT, LEARN, QUALITY
from es_plugin_config.kibana.search_dashboards import EFFECT, HEALTH, ONE_SEARCH

DASHBOARDS = (HEALTH, EFFECT, QUALITY, EXPERIMENT, LEARN, ONE_SEARCH)
