"""The Pod Security Standards (KEP-2579): levels, versions, and the checks behind them, in upstream's words."""
