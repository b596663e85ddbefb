"""Priority and fairness (KEP-1040): who asks for much waits behind the others, not the others behind them."""
