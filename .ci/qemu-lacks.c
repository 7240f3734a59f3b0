/*
 * For programs under qemu-aarch64 before version 8: it does not know IPV6_DONTFRAG, without which MsQuic opens no socket. Here
 * that setting does nothing. MsQuic has the system fragment nothing by another setting as well.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

#ifndef IPV6_DONTFRAG
#define IPV6_DONTFRAG 62
#endif

int setsockopt(int socket, int level, int option, const void *value, socklen_t length) {
    static int (*next)(int, int, int, const void *, socklen_t);
    if (next == NULL) {
        next = (int (*)(int, int, int, const void *, socklen_t))dlsym(RTLD_NEXT, "setsockopt");
    }
    int result = next(socket, level, option, value, length);
    return result != 0 && errno == ENOPROTOOPT && level == IPPROTO_IPV6 && option == IPV6_DONTFRAG ? 0 : result;
}
