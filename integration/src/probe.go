// SPDX-License-Identifier: Apache-2.0

// The same commands as probe.c, from Go: no libc, many threads, goroutines moved by signals.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"sort"
	"strconv"
	"strings"
	"syscall"
)

var file *os.File
var held []byte

func name(err error) string {
	for {
		switch e := err.(type) {
		case *os.PathError:
			err = e.Err
			continue
		case *os.LinkError:
			err = e.Err
			continue
		case *os.SyscallError:
			err = e.Err
			continue
		case syscall.Errno:
			names := map[syscall.Errno]string{
				syscall.ENOENT: "ENOENT", syscall.EAGAIN: "EAGAIN", syscall.EACCES: "EAGAIN",
				syscall.EPERM: "EPERM", syscall.EEXIST: "EEXIST", syscall.ENOTEMPTY: "ENOTEMPTY",
				syscall.EBADF: "EBADF", syscall.EINVAL: "EINVAL", syscall.ENOTDIR: "ENOTDIR",
				syscall.EISDIR: "EISDIR", syscall.ENOSPC: "ENOSPC", syscall.EROFS: "EROFS",
				syscall.EIO: "EIO", syscall.ENOTCONN: "ENOTCONN",
				syscall.ECONNABORTED: "ECONNABORTED"}
			if n, ok := names[e]; ok {
				return n
			}
			return fmt.Sprintf("errno %d", int(e))
		}
		return err.Error()
	}
}

func done(err error) string {
	if err != nil {
		return name(err)
	}
	return "ok"
}

func number(n int64, err error) string {
	if err != nil {
		return name(err)
	}
	return strconv.FormatInt(n, 10)
}

func text(b []byte, err error) string {
	if err != nil && err != io.EOF {
		return name(err)
	}
	return strings.NewReplacer("\x00", ".", "\n", ".").Replace(string(b))
}

func num(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

func lock(kind int16, start, length string) string {
	l := syscall.Flock_t{Type: kind, Whence: 0, Start: num(start), Len: num(length)}
	return done(syscall.FcntlFlock(file.Fd(), syscall.F_SETLK, &l))
}

func mapAll() ([]byte, error) {
	st, err := file.Stat()
	if err != nil {
		return nil, err
	}
	return syscall.Mmap(int(file.Fd()), 0, int(st.Size()),
		syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
}

func mapped(offset int64, what string) string {
	p, err := mapAll()
	if err != nil {
		return name(err)
	}
	copy(p[offset:], what)
	return done(syscall.Munmap(p))
}

func appendTo(path, what string) string {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0644)
	if err != nil {
		return name(err)
	}
	n, err := f.Write([]byte(what))
	if e := f.Close(); err == nil {
		err = e
	}
	return number(int64(n), err)
}

func ls(path string) string {
	entries, err := os.ReadDir(path)
	if err != nil {
		return name(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	sort.Strings(names)
	return strings.Join(names, " ")
}

func act(verb, a, b string) string {
	switch verb {
	case "open":
		f, err := os.OpenFile(a, os.O_RDWR|os.O_CREATE, 0644)
		file = f
		return done(err)
	case "pwrite":
		n, err := file.WriteAt([]byte(b), num(a))
		return number(int64(n), err)
	case "pread":
		buf := make([]byte, num(b))
		n, err := file.ReadAt(buf, num(a))
		return text(buf[:n], err)
	case "size":
		st, err := file.Stat()
		if err != nil {
			return name(err)
		}
		return number(st.Size(), nil)
	case "truncate":
		return done(file.Truncate(num(a)))
	case "lock":
		kind := int16(syscall.F_WRLCK)
		if a == "r" {
			kind = syscall.F_RDLCK
		}
		w := strings.Fields(b)
		return lock(kind, w[0], w[1])
	case "unlock":
		return lock(syscall.F_UNLCK, a, b)
	case "close":
		return done(file.Close())
	case "map":
		return mapped(num(a), b)
	case "hold":
		p, err := mapAll()
		held = p
		return done(err)
	case "poke":
		copy(held[num(a):], b)
		return "ok"
	case "peek":
		return text(held[num(a):num(a)+num(b)], nil)
	case "drop":
		return done(syscall.Munmap(held))
	case "append":
		return appendTo(a, b)
	case "cat":
		return text(os.ReadFile(a))
	case "stat":
		st, err := os.Stat(a)
		if err != nil {
			return name(err)
		}
		return fmt.Sprintf("%d %d", st.Size(), st.Sys().(*syscall.Stat_t).Nlink)
	case "rename":
		return done(syscall.Rename(a, b))
	case "link":
		return done(os.Link(a, b))
	case "symlink":
		return done(os.Symlink(a, b))
	case "unlink":
		return done(syscall.Unlink(a))
	case "mkdir":
		return done(os.Mkdir(a, 0755))
	case "rmdir":
		return done(syscall.Rmdir(a))
	case "ls":
		return ls(a)
	}
	return "unknown"
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		w := append(strings.SplitN(in.Text(), " ", 3), "", "")
		fmt.Println(act(w[0], w[1], w[2]))
	}
}
