package main

// addConsole adds the console to the private listener.
func (g *gateway) addConsole() {}
