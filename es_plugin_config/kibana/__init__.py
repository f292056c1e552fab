"""Kibana dashboards and alert rules as code, and the checks that stand in for a Kibana."""
