package main

import "syscall"

// ownGroup puts a child into a process group of its own; the kernel ends it should the demo be killed.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
