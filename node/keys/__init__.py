"""Secret keys: how they rest (keystore), are written on paper (mnemonic) and are sealed to (sealing)."""
