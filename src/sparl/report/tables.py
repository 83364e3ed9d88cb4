"""The tables of a report."""

from __future__ import annotations

from sparl.report.return_tables import returns, together
from sparl.report.run_tables import costs, origins
from sparl.report.runs import Collection
from sparl.report.table import Table


def all_tables(runs: Collection) -> list[Table]:
    """Return the tables that have rows: returns, all environments together, costs and runs."""
    tables = [returns(runs), together(runs), costs(runs), origins(runs)]
    return [table for table in tables if table.rows]
