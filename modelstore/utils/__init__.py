"""Import paths of `operatorai/modelstore`, kept so that its users can switch; nothing else lives here."""
