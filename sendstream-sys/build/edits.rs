//! The changes we make to MsQuic's sources, in the order they are made.
//!
//! The build script applies this list to its copy of the sources, and the library publishes which of them were made, so
//! that a program can say what it really runs. A change is anchored in the text it replaces: where an anchor is not found
//! exactly once, none of its edit is made. The crate's own sources are then refused; a checkout is built without the edit.

/// What is mended, or saved, by one or more changes that are made together or not at all.
#[derive(Clone, Copy)]
pub(crate) struct Edit {
    /// A short, stable name.
    pub(crate) name: &'static str,
    /// What would go wrong, or be done for nothing, without it.
    pub(crate) prevents: &'static str,
    /// What is changed, first to last.
    pub(crate) changes: &'static [Change],
}

/// One change of one place in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    /// The file, relative to the root of MsQuic's sources.
    pub(crate) file: &'static str,
    /// The text to replace. It occurs exactly once in the file.
    pub(crate) anchor: &'static str,
    /// What stands there afterwards.
    pub(crate) replacement: &'static str,
}

/// The edits that mend something, first to last.
pub(crate) const FIXES: &[Edit] = &[
    Edit {
        name: "empty-datagram-leak",
        prevents: "every UDP datagram without payload, from anyone, leaks its receive block (about 70 KB)",
        changes: &[
            // The end of the loop over one batch. By then each packet that was cut from the block has counted itself in
            // `RefCount`, and none has been handed up yet: zero means that nobody will ever give the block back. The caller
            // has no pointer to it any more either.
            Change {
                file: "src/platform/datapath_epoll.c",
                anchor: "SocketContext->DatapathPartition->Datapath->RecvBlockStride);\n        }\n    }\n\n    if (BytesTransferred == 0 || DatagramHead == NULL) {",
                replacement: "SocketContext->DatapathPartition->Datapath->RecvBlockStride);\n        }\n\n        if (IoBlock->RefCount == 0) {\n            CxPlatPoolFree(IoBlock);\n        }\n    }\n\n    \
                              if (BytesTransferred == 0 || DatagramHead == NULL) {",
            },
        ],
    },
    Edit {
        name: "exclusive-port",
        prevents: "a server on port 0 is given the port of another server of the same user, and takes half of its packets; \
                   and a server on a port in use is not refused",
        changes: &[
            // Linux lets sockets with SO_REUSEPORT share a port even where it chooses the port itself. So the first of a
            // server's sockets, one for each processor, binds without it. The next change sets it afterwards, for the others.
            Change {
                file: "src/platform/datapath_epoll.c",
                anchor: "        if ((Config->Flags & CXPLAT_SOCKET_FLAG_SHARE || Config->RemoteAddress == NULL) &&\n            \
                         SocketContext->Binding->Datapath->PartitionCount > 1) {",
                replacement: "        if ((Config->RemoteAddress == NULL ?\n                \
                              SocketContext != Binding->SocketContexts :\n                \
                              (Config->Flags & CXPLAT_SOCKET_FLAG_SHARE)) &&\n            \
                              SocketContext->Binding->Datapath->PartitionCount > 1) {",
            },
            Change {
                file: "src/platform/datapath_epoll.c",
                anchor: "            \"bind failed\");\n        goto Exit;\n    }\n\n    QUIC_ADDR_STR LocalAddressStr;",
                replacement: "            \"bind failed\");\n        goto Exit;\n    }\n\n    \
                              if (SocketType == CXPLAT_SOCKET_UDP && Config->RemoteAddress == NULL &&\n        \
                              SocketContext == Binding->SocketContexts &&\n        \
                              SocketContext->Binding->Datapath->PartitionCount > 1) {\n        \
                              Option = TRUE;\n        \
                              if (setsockopt(\n                SocketContext->SocketFd, SOL_SOCKET, SO_REUSEPORT,\n                \
                              (const void*)&Option, sizeof(Option)) == SOCKET_ERROR) {\n            \
                              Status = errno;\n            goto Exit;\n        }\n    }\n\n    \
                              QUIC_ADDR_STR LocalAddressStr;",
            },
        ],
    },
    Edit {
        name: "sockets-end-at-exec",
        prevents: "a program that is started by one with a server inherits its sockets, and keeps the port after the server's end",
        changes: &[Change {
            file: "src/platform/datapath_epoll.c",
            anchor: "(SocketType == CXPLAT_SOCKET_UDP ? SOCK_DGRAM : SOCK_STREAM) |\n                SOCK_NONBLOCK,",
            replacement: "(SocketType == CXPLAT_SOCKET_UDP ? SOCK_DGRAM : SOCK_STREAM) |\n                SOCK_NONBLOCK | SOCK_CLOEXEC,",
        }],
    },
    Edit {
        name: "receive-not-forgotten",
        prevents: "with several receives outstanding, the last bytes of a stream are now and then never indicated",
        changes: &[
            // A completion that was queued may run after a flush has taken its bytes along. It then finds nothing pending, and
            // used to conclude that nothing is left to deliver, though a frame may have arrived meanwhile.
            Change {
                file: "src/core/stream_recv.c",
                anchor: "    if (Stream->RecvPendingLength == 0 ||\n        \
                         QuicRecvBufferDrain(&Stream->RecvBuffer, BufferLength)) {",
                replacement: "    if (Stream->RecvPendingLength == 0 ?\n        \
                              !QuicRecvBufferHasUnreadData(&Stream->RecvBuffer) :\n        \
                              QuicRecvBufferDrain(&Stream->RecvBuffer, BufferLength)) {",
            },
        ],
    },
    Edit {
        name: "fin-behind-lent-data",
        prevents: "with several receives outstanding, a FIN in a frame of its own is not told before every byte is given back",
        changes: &[
            // FIN counts as deliverable only once everything before it was *completed*. With multi-receive it is enough that
            // everything was *indicated*; in the other modes what is pending holds deliveries back further down anyway.
            Change {
                file: "src/core/stream_recv.c",
                anchor: "        Stream->RecvMaxLength = EndOffset;\n        \
                         if (Stream->RecvBuffer.BaseOffset == Stream->RecvMaxLength) {",
                replacement: "        Stream->RecvMaxLength = EndOffset;\n        \
                              if (Stream->RecvBuffer.BaseOffset + Stream->RecvBuffer.ReadPendingLength == Stream->RecvMaxLength) {",
            },
        ],
    },
    Edit {
        name: "close-reason-stored-first",
        prevents: "an application that is told of the peer's close cannot ask for the reason phrase that came with it",
        changes: &[
            // MsQuic indicates SHUTDOWN_INITIATED before it stores the phrase. This takes the indication out, the next change
            // puts it back behind.
            Change {
                file: "src/core/connection.c",
                anchor: "        if (Flags & QUIC_CLOSE_SEND_NOTIFICATION &&\n            Connection->State.ExternalOwner) {\n            \
                         QuicConnIndicateShutdownBegin(Connection);\n        }\n\n        if (Connection->CloseReasonPhrase != NULL) {",
                replacement: "        if (Connection->CloseReasonPhrase != NULL) {",
            },
            Change {
                file: "src/core/connection.c",
                anchor: "        if (Connection->State.Started) {\n            QuicConnLogStatistics(Connection);\n        }",
                replacement: "        if (Flags & QUIC_CLOSE_SEND_NOTIFICATION &&\n            Connection->State.ExternalOwner) {\n            \
                              QuicConnIndicateShutdownBegin(Connection);\n        }\n\n        \
                              if (Connection->State.Started) {\n            QuicConnLogStatistics(Connection);\n        }",
            },
        ],
    },
    Edit {
        name: "datagram-limit-counts-the-frame",
        prevents: "a datagram that fills a peer's max_datagram_frame_size makes a frame of up to three bytes more, which ends the connection",
        changes: &[
            // RFC 9221 section 3 counts the frame's type and length as well, and makes 0 stand for no support; MsQuic takes the
            // parameter for the payload's limit.
            Change {
                file: "src/core/datagram.c",
                anchor: "        if (!(Connection->PeerTransportParams.Flags & QUIC_TP_FLAG_MAX_DATAGRAM_FRAME_SIZE)) {\n            \
                         SendEnabled = FALSE;\n            NewMaxSendLength = 0;\n        } else {\n            \
                         if (Connection->PeerTransportParams.MaxDatagramFrameSize < UINT16_MAX) {\n                \
                         NewMaxSendLength = (uint16_t)Connection->PeerTransportParams.MaxDatagramFrameSize;\n",
                replacement: "        if (!(Connection->PeerTransportParams.Flags & QUIC_TP_FLAG_MAX_DATAGRAM_FRAME_SIZE) ||\n            \
                              Connection->PeerTransportParams.MaxDatagramFrameSize < DATAGRAM_FRAME_HEADER_LENGTH) {\n            \
                              SendEnabled = FALSE;\n            NewMaxSendLength = 0;\n        } else {\n            \
                              if (Connection->PeerTransportParams.MaxDatagramFrameSize < UINT16_MAX) {\n                \
                              NewMaxSendLength =\n                    \
                              (uint16_t)(Connection->PeerTransportParams.MaxDatagramFrameSize - DATAGRAM_FRAME_HEADER_LENGTH);\n",
            },
        ],
    },
    Edit {
        name: "datagram-limit-told-to-servers",
        prevents: "a server is not told that datagrams can be sent before the path's MTU changes, which it may never do",
        changes: &[
            // A client's parameters come with its first packet, before the listener has accepted, and MsQuic keeps what it
            // derives from them to itself as long as nobody owns the connection.
            Change {
                file: "src/core/crypto.c",
                anchor: "        QUIC_CONNECTION_EVENT Event;\n        Event.Type = QUIC_CONNECTION_EVENT_CONNECTED;\n",
                replacement: "        QUIC_CONNECTION_EVENT Event;\n        \
                              if (QuicConnIsServer(Connection) && Connection->Datagram.SendEnabled) {\n            \
                              Event.Type = QUIC_CONNECTION_EVENT_DATAGRAM_STATE_CHANGED;\n            \
                              Event.DATAGRAM_STATE_CHANGED.SendEnabled = TRUE;\n            \
                              Event.DATAGRAM_STATE_CHANGED.MaxSendLength = Connection->Datagram.MaxSendLength;\n            \
                              (void)QuicConnIndicateEvent(Connection, &Event);\n        }\n        \
                              Event.Type = QUIC_CONNECTION_EVENT_CONNECTED;\n",
            },
        ],
    },
    Edit {
        name: "removed-path",
        prevents: "a client whose packets come from several ports, by itself or by whoever forwards them, crashes the server: packets and frames use the path they came on after it was removed",
        changes: &[
            // Removing a path moves those behind it, so the pointer may mean another path as well as none. A packet without a
            // path is given up and not acknowledged: the peer sends what it carried again, on a path that is left.
            Change {
                file: "src/core/connection.c",
                anchor: "            if (ReplaceRetiredCids && !QuicConnReplaceRetiredCids(Connection)) {\n                \
                         return FALSE;\n            }\n",
                replacement: "            if (ReplaceRetiredCids) {\n                \
                              const uint8_t PathID = Path->ID;\n                uint8_t PathIndex;\n                \
                              if (!QuicConnReplaceRetiredCids(Connection) ||\n                    \
                              (Path = QuicConnGetPathByID(Connection, PathID, &PathIndex)) == NULL) {\n                    \
                              return FALSE;\n                }\n            }\n",
            },
            // The path may be gone before the first packet of the batch is looked at, and after each of them.
            Change {
                file: "src/core/connection.c",
                anchor: "    CXPLAT_DBG_ASSERT(BatchCount > 0 && BatchCount <= QUIC_MAX_CRYPTO_BATCH_COUNT);\n    \
                         QUIC_RX_PACKET* Packet = Packets[0];\n",
                replacement: "    CXPLAT_DBG_ASSERT(BatchCount > 0 && BatchCount <= QUIC_MAX_CRYPTO_BATCH_COUNT);\n    \
                              if (Path == NULL) {\n        return;\n    }\n    \
                              const uint8_t PathID = Path->ID;\n    uint8_t PathIndex;\n    \
                              QUIC_RX_PACKET* Packet = Packets[0];\n",
            },
            Change {
                file: "src/core/connection.c",
                anchor: "                CXPLAT_DBG_ASSERT(CurrentPath != NULL);\n                QuicConnRecvDatagramBatch(",
                replacement: "                QuicConnRecvDatagramBatch(",
            },
            Change {
                file: "src/core/connection.c",
                anchor: "        Packet = Packets[i];\n        CXPLAT_DBG_ASSERT(Packet->PacketId != 0);\n        \
                         if (!QuicConnRecvPrepareDecrypt(",
                replacement: "        Packet = Packets[i];\n        CXPLAT_DBG_ASSERT(Packet->PacketId != 0);\n        \
                              Path = QuicConnGetPathByID(Connection, PathID, &PathIndex);\n        \
                              if (Path == NULL) {\n            return;\n        }\n        \
                              if (!QuicConnRecvPrepareDecrypt(",
            },
            Change {
                file: "src/core/connection.c",
                anchor: "        } else if (QuicConnRecvFrames(Connection, Path, Packet, ECN)) {\n\n            \
                         QuicConnRecvPostProcessing(",
                replacement: "        } else if (QuicConnRecvFrames(Connection, Path, Packet, ECN)) {\n\n            \
                              Path = QuicConnGetPathByID(Connection, PathID, &PathIndex);\n            \
                              if (Path == NULL) {\n                \
                              RecvState->ResetIdleTimeout |= Packet->CompletelyValid;\n                return;\n            }\n            \
                              QuicConnRecvPostProcessing(",
            },
        ],
    },
    Edit {
        name: "version-negotiation-checked",
        prevents: "anybody who sees that a client connects, but not its packets, ends the handshake with a Version Negotiation \
                   packet that carries none of its connection ids; and anybody who sees its packets ends the connection with such a \
                   packet at any time, or crashes the client (RFC 9000 section 6.2, RFC 8999 section 6)",
        changes: &[
            // The server's answer carries the destination connection id of the client's first packet as its source. Only an
            // answer that does counts as the one that a handshake may have.
            Change {
                file: "src/core/connection.c",
                anchor: "    // TODO - Validate the packet's SourceCid is equal to our DestCid.\n",
                replacement: "    if (Connection->Paths[0].DestCid == NULL ||\n        \
                              Packet->SourceCidLen != Connection->Paths[0].DestCid->CID.Length ||\n        \
                              memcmp(\n            Packet->SourceCid,\n            Connection->Paths[0].DestCid->CID.Data,\n            \
                              Packet->SourceCidLen) != 0) {\n        \
                              QuicPacketLogDrop(Connection, Packet, \"VN for another connection id\");\n        return;\n    }\n    \
                              Connection->Stats.VersionNegotiation = TRUE;\n",
            },
            Change {
                file: "src/core/connection.c",
                anchor: "                Connection->Stats.VersionNegotiation = TRUE;\n                QuicConnRecvVerNeg(",
                replacement: "                QuicConnRecvVerNeg(",
            },
            // After any other packet of the server's it is too late for one.
            Change {
                file: "src/core/connection.c",
                anchor: "                !Connection->Stats.VersionNegotiation) {\n",
                replacement: "                !Connection->Stats.VersionNegotiation && !Connection->State.GotFirstServerResponse) {\n",
            },
        ],
    },
    Edit {
        name: "handshake-buffer-grows-to-its-limit",
        prevents: "a certificate chain of more than 32 KiB makes the server double 32 KiB to 0 in 16 bits, for ever",
        changes: &[
            // What may be buffered (0xF000) is less than the type holds, so the last step goes there and not past it.
            Change {
                file: "src/platform/tls_openssl.c",
                anchor: "            NewBufferAllocLength <<= 1;\n",
                replacement: "            NewBufferAllocLength =\n                \
                              NewBufferAllocLength > UINT16_MAX / 2 ? UINT16_MAX : NewBufferAllocLength << 1;\n",
            },
        ],
    },
    Edit {
        name: "finished-within-its-record",
        prevents: "a TLS Finished that says it is longer than what arrived is read past the end of its memory",
        changes: &[
            // One that is not all there is treated like every other message that is not.
            Change {
                file: "src/platform/tls_openssl.c",
                anchor: "        if (message_type == SSL3_MT_FINISHED) {\n",
                replacement: "        if (message_type == SSL3_MT_FINISHED &&\n            \
                              total_message_size + message_size + 4 <= Entry->RecLen) {\n",
            },
        ],
    },
    Edit {
        name: "client-alpn-copied",
        prevents: "a server of several protocols chooses between them from memory that more handshake data of the client may have freed",
        changes: &[
            // MsQuic keeps a pointer into the buffer that handshake data arrives in, and reads through it when the
            // application accepts, which may be much later.
            Change {
                file: "src/core/binding.c",
                anchor: "    Connection->Crypto.TlsState.ClientAlpnList = Info->ClientAlpnList;\n",
                replacement: "    uint8_t* ClientAlpnList = CXPLAT_ALLOC_NONPAGED(Info->ClientAlpnListLength, QUIC_POOL_ALPN);\n    \
                              if (ClientAlpnList == NULL) {\n        \
                              QuicConnTransportError(Connection, QUIC_ERROR_INTERNAL_ERROR);\n        goto Error;\n    }\n    \
                              CxPlatCopyMemory(ClientAlpnList, Info->ClientAlpnList, Info->ClientAlpnListLength);\n    \
                              Connection->Crypto.TlsState.ClientAlpnList = ClientAlpnList;\n",
            },
            Change {
                file: "src/core/connection.c",
                anchor: "        Connection->Crypto.TlsState.ClientAlpnList = NULL;\n",
                replacement: "        if (Connection->Crypto.TlsState.ClientAlpnList != NULL) {\n            \
                              CXPLAT_FREE(Connection->Crypto.TlsState.ClientAlpnList, QUIC_POOL_ALPN);\n        }\n        \
                              Connection->Crypto.TlsState.ClientAlpnList = NULL;\n",
            },
            Change {
                file: "src/core/crypto.c",
                anchor: "    if (Crypto->TlsState.NegotiatedAlpn != NULL &&\n        QuicConnIsServer(QuicCryptoGetConnection(Crypto))) {\n",
                replacement: "    if (Crypto->TlsState.ClientAlpnList != NULL) {\n        \
                              CXPLAT_FREE(Crypto->TlsState.ClientAlpnList, QUIC_POOL_ALPN);\n        \
                              Crypto->TlsState.ClientAlpnList = NULL;\n    }\n    \
                              if (Crypto->TlsState.NegotiatedAlpn != NULL &&\n        QuicConnIsServer(QuicCryptoGetConnection(Crypto))) {\n",
            },
        ],
    },
    Edit {
        name: "window-below-4-gib",
        prevents: "a stream's receive window that grows from 2 GiB to one byte less than 4 never ends growing",
        changes: &[
            // Windows are powers of two, and the memory behind one is doubled until it suffices, in 32 bits.
            Change {
                file: "src/core/stream_recv.c",
                anchor: "                NewLength = CXPLAT_MIN(NewLength, UINT32_MAX);\n",
                replacement: "                NewLength = CXPLAT_MIN(NewLength, 0x80000000);\n",
            },
        ],
    },
    Edit {
        name: "refused-ticket-lets-handshake-go-on",
        prevents: "a server that cannot use a session ticket, such as one from before it lowered a limit, never answers the client",
        changes: &[
            // Whether the ticket counts is "pending" while it is looked at, and every way out but this one ends that. OpenSSL goes
            // on to a full handshake, whose messages MsQuic would keep to itself.
            Change {
                file: "src/core/connection.c",
                anchor: "Error:\n\n    QuicCryptoTlsCleanupTransportParameters(&ResumedTP);\n    return ResumptionAccepted;",
                replacement: "Error:\n\n    if (!ResumptionAccepted) {\n        \
                              Connection->Crypto.TicketValidationPending = FALSE;\n    }\n    \
                              QuicCryptoTlsCleanupTransportParameters(&ResumedTP);\n    return ResumptionAccepted;",
            },
        ],
    },
    Edit {
        name: "resumption-without-early-data",
        prevents: "QUIC_SERVER_RESUME_ONLY accepts 0-RTT data all the same",
        changes: &[
            // Nothing looks at the level but for its being zero. This tells the TLS layer, which the second change has listen: 0x0002
            // is free among CXPLAT_TLS_CREDENTIAL_FLAGS.
            Change {
                file: "src/core/configuration.c",
                anchor: "            TlsCredFlags |= CXPLAT_TLS_CREDENTIAL_FLAG_DISABLE_RESUMPTION;\n        }",
                replacement: "            TlsCredFlags |= CXPLAT_TLS_CREDENTIAL_FLAG_DISABLE_RESUMPTION;\n        }\n        \
                              if (Configuration->Settings.ServerResumptionLevel == QUIC_SERVER_RESUME_ONLY) {\n            \
                              TlsCredFlags |= (CXPLAT_TLS_CREDENTIAL_FLAGS)0x0002;\n        }",
            },
            Change {
                file: "src/platform/tls_openssl.c",
                anchor: "        if (Config->IsServer || (Config->ResumptionTicketLength != 0)) {\n            \
                         SSL_set_quic_tls_early_data_enabled(TlsContext->Ssl, 1);",
                replacement: "        if (Config->IsServer || (Config->ResumptionTicketLength != 0)) {\n            \
                              SSL_set_quic_tls_early_data_enabled(\n                TlsContext->Ssl,\n                \
                              !Config->IsServer || !(Config->SecConfig->TlsFlags & 0x0002));",
            },
        ],
    },
    Edit {
        name: "early-data-verdict",
        prevents: "a client never learns whether the server took its 0-RTT data",
        changes: &[
            // Bit 1 of the byte says so; bit 0 is what the field has always been.
            Change {
                file: "src/core/crypto.c",
                anchor: "        Event.CONNECTED.SessionResumed = Crypto->TlsState.SessionResumed;",
                replacement: "        Event.CONNECTED.SessionResumed =\n            (BOOLEAN)((Crypto->TlsState.SessionResumed ? 1 : 0) |\n            \
                              (Crypto->TlsState.EarlyDataState == CXPLAT_TLS_EARLY_DATA_ACCEPTED ? 2 : 0));",
            },
        ],
    },
    Edit {
        name: "early-data-flushed",
        prevents: "0-RTT data of a stream that is opened after the start waits for a probe timeout, and goes out in 1-RTT packets then",
        changes: &[
            // With a stream in the queue nobody sees to its being sent: the condition is the wrong way round.
            Change {
                file: "src/core/send.c",
                anchor: "        if (Connection->Crypto.TlsState.WriteKeys[QUIC_PACKET_KEY_0_RTT] != NULL &&\n            \
                         CxPlatListIsEmpty(&Send->SendStreams)) {\n            return TRUE;",
                replacement: "        if (Connection->Crypto.TlsState.WriteKeys[QUIC_PACKET_KEY_0_RTT] != NULL) {\n            return TRUE;",
            },
        ],
    },
    Edit {
        name: "server-flight-in-handshake-packets",
        prevents: "a server that accepts 0-RTT data sends its EncryptedExtensions and Finished in Initial packets, which anybody can \
                   read and RFC 9001 section 4 forbids",
        changes: &[
            // What TLS sends belongs to the last secret it got for sending. With early data accepted, OpenSSL yields the handshake
            // secret for receiving only after the server's flight, and MsQuic waited for both.
            Change {
                file: "src/platform/tls_openssl.c",
                anchor: "    if (AData->SecretSet[ProtLevel][DIR_READ].installed == 1 && AData->SecretSet[ProtLevel][DIR_WRITE].installed == 1) {\n        \
                         AData->Level = ProtLevel;",
                replacement: "    if (AData->SecretSet[ProtLevel][DIR_WRITE].installed == 1 &&\n        \
                              (AData->SecretSet[ProtLevel][DIR_READ].installed == 1 ||\n         \
                              (TlsContext->IsServer && KeyType == QUIC_PACKET_KEY_HANDSHAKE))) {\n        \
                              AData->Level = ProtLevel;",
            },
        ],
    },
    Edit {
        name: "several-ticket-keys",
        prevents: "a server knows the first of its ticket keys only, so that every ticket ends with the key that made it",
        changes: &[
            Change {
                file: "src/platform/tls_openssl.c",
                anchor: "    QUIC_TICKET_KEY_CONFIG* TicketKey;\n\n    //\n    // TLS-related callbacks",
                replacement: "    QUIC_TICKET_KEY_CONFIG* TicketKey;\n    uint8_t TicketKeyCount;\n\n    //\n    // TLS-related callbacks",
            },
            Change {
                file: "src/platform/tls_openssl.c",
                anchor: "            CXPLAT_ALLOC_NONPAGED(sizeof(QUIC_TICKET_KEY_CONFIG), QUIC_POOL_TLS_TICKET_KEY);",
                replacement: "            CXPLAT_ALLOC_NONPAGED(\n                \
                              QUIC_MAX_TICKET_KEY_COUNT * sizeof(QUIC_TICKET_KEY_CONFIG), QUIC_POOL_TLS_TICKET_KEY);",
            },
            Change {
                file: "src/platform/tls_openssl.c",
                anchor: "    CxPlatCopyMemory(\n        SecurityConfig->TicketKey,\n        KeyConfig,\n        sizeof(QUIC_TICKET_KEY_CONFIG));",
                replacement: "    SecurityConfig->TicketKeyCount = (uint8_t)CXPLAT_MIN(KeyCount, QUIC_MAX_TICKET_KEY_COUNT);\n    \
                              CxPlatCopyMemory(\n        SecurityConfig->TicketKey,\n        KeyConfig,\n        \
                              SecurityConfig->TicketKeyCount * sizeof(QUIC_TICKET_KEY_CONFIG));",
            },
            Change {
                file: "src/platform/tls_openssl.c",
                anchor: "        if (memcmp(key_name, TicketKey->Id, 16) != 0) {",
                replacement: "        uint8_t KeysLeft = TlsContext->SecConfig->TicketKeyCount;\n        \
                              while (KeysLeft != 0 && memcmp(key_name, TicketKey->Id, 16) != 0) {\n            \
                              ++TicketKey;\n            --KeysLeft;\n        }\n        \
                              if (KeysLeft == 0) {",
            },
        ],
    },
    Edit {
        name: "ticket-keys-wiped",
        prevents: "a server's ticket keys stay in freed memory",
        changes: &[Change {
            file: "src/platform/tls_openssl.c",
            anchor: "    if (SecurityConfig->TicketKey != NULL) {\n        CXPLAT_FREE(",
            replacement: "    if (SecurityConfig->TicketKey != NULL) {\n        \
                              CxPlatSecureZeroMemory(\n            SecurityConfig->TicketKey,\n            \
                              QUIC_MAX_TICKET_KEY_COUNT * sizeof(QUIC_TICKET_KEY_CONFIG));\n        CXPLAT_FREE(",
        }],
    },
    Edit {
        name: "end-not-before-what-was-sent",
        prevents: "a stream whose end a peer puts before data that has come is not refused, and never ends",
        changes: &[
            // RFC 9000 section 4.5. Data behind an end that is known is refused already, and so is a reset before data.
            Change {
                file: "src/core/stream_recv.c",
                anchor: "        // FIN disagrees with previous FIN.\n        //\n        \
                         Status = QUIC_STATUS_INVALID_PARAMETER;\n        goto Error;\n    }\n",
                replacement: "        // FIN disagrees with previous FIN.\n        //\n        \
                              Status = QUIC_STATUS_INVALID_PARAMETER;\n        goto Error;\n    }\n\n    \
                              if (Frame->Fin && EndOffset < QuicRecvBufferGetTotalLength(&Stream->RecvBuffer)) {\n        \
                              Status = QUIC_STATUS_INVALID_PARAMETER;\n        goto Error;\n    }\n",
            },
        ],
    },
    Edit {
        name: "handshake-done-after-the-handshake",
        prevents: "a server that confirms the handshake before the client has finished it, as while its certificate is judged, has the \
                   client forget its last word of it: both wait until they time out (RFC 9000 section 19.20)",
        changes: &[Change {
            file: "src/core/connection.c",
            anchor: "            if (!Connection->State.HandshakeConfirmed) {\n                \
                     QuicTraceLogConnInfo(\n                    HandshakeConfirmedFrame,\n",
            replacement: "            if (!Connection->State.Connected) {\n                \
                          QuicTraceEvent(\n                    ConnError,\n                    \
                          \"[conn][%p] ERROR, %s.\",\n                    Connection,\n                    \
                          \"HANDSHAKE_DONE before the handshake is done\");\n                \
                          QuicConnTransportError(Connection, QUIC_ERROR_PROTOCOL_VIOLATION);\n                \
                          return FALSE;\n            \
                          }\n\
                          \n            \
                          if (!Connection->State.HandshakeConfirmed) {\n                \
                          QuicTraceLogConnInfo(\n                    HandshakeConfirmedFrame,\n",
        }],
    },
    Edit {
        name: "nothing-read-after-tls",
        prevents: "a client whose certificate is judged, and which sends more than its handshake meanwhile, has the server read a buffer \
                   that the end of the handshake has freed",
        changes: &[Change {
            file: "src/core/crypto.c",
            anchor: "            \"Custom cert validation succeeded\");\n        \
                     QuicCryptoProcessDataComplete(Crypto, Crypto->PendingValidationBufferLength);\n\
                     \n        \
                     if (QuicRecvBufferHasUnreadData(&Crypto->RecvBuffer)) {\n",
            replacement: "            \"Custom cert validation succeeded\");\n        \
                          QuicCryptoProcessDataComplete(Crypto, Crypto->PendingValidationBufferLength);\n\
                          \n        \
                          if (Crypto->Initialized && QuicRecvBufferHasUnreadData(&Crypto->RecvBuffer)) {\n",
        }],
    },
    Edit {
        name: "no-addresses-from-servers",
        prevents: "any server makes a client send packets to addresses that the server names, which was never agreed upon",
        changes: &[
            // ADD_ADDRESS and its like, of a draft. MsQuic has a setting for servers that take them and none for clients that
            // do not. Nothing here sends them.
            Change {
                file: "src/core/frame.h",
                anchor: "X == QUIC_FRAME_OBSERVED_ADDRESS_V6 || \\\n     (X >= QUIC_FRAME_ADD_ADDRESS_V4 && X <= QUIC_FRAME_REMOVE_ADDRESS) \\\n",
                replacement: "X == QUIC_FRAME_OBSERVED_ADDRESS_V6 \\\n",
            },
        ],
    },
    Edit {
        name: "validated-path-unlimited",
        prevents: "after a client moved to another port, a server goes on sending three times what it receives and no more: \
                   for seconds, or until the connection times out",
        changes: &[
            // A path in use keeps the allowance of a validated one, UINT32_MAX, while it is challenged again. What arrives on it
            // was added to that, in 32 bits.
            Change {
                file: "src/core/path.h",
                anchor: "    QuicPathSetAllowance(Connection, Path, Path->Allowance + Amount);\n",
                replacement: "    QuicPathSetAllowance(\n        Connection,\n        Path,\n        \
                              Path->Allowance >= UINT32_MAX - Amount ? UINT32_MAX : (Path->Allowance + Amount));\n",
            },
            // The old path and the new one are challenged at once. A peer may answer the later challenge alone (quinn does), and
            // acknowledge both, so that neither is ever sent again. An answer says that the peer is there: ask for the others.
            Change {
                file: "src/core/connection.c",
                anchor: "                    QuicPathSetValid(Connection, TempPath, QUIC_PATH_VALID_PATH_RESPONSE);\n                    break;\n",
                replacement: "                    QuicPathSetValid(Connection, TempPath, QUIC_PATH_VALID_PATH_RESPONSE);\n                    \
                              for (uint8_t j = 0; j < Connection->PathsCount; ++j) {\n                        \
                              if (!Connection->Paths[j].IsPeerValidated &&\n                            \
                              Connection->Paths[j].PathValidationStartTime != 0) {\n                            \
                              Connection->Paths[j].SendChallenge = TRUE;\n                            \
                              QuicSendSetSendFlag(&Connection->Send, QUIC_CONN_SEND_FLAG_PATH_CHALLENGE);\n                        \
                              }\n                    }\n                    break;\n",
            },
        ],
    },
    Edit {
        name: "signals-do-not-stop-timers",
        prevents: "a thread that is interrupted by signals more often than its next timer is away never comes to its timers",
        changes: &[
            // Waiting began again with all of the time. No event is what the caller expects when the time is over: it looks at
            // its timers, and waits for what is left.
            Change {
                file: "src/inc/quic_platform_posix.h",
                anchor: "    int result;\n    do {\n        result = epoll_wait(*queue, events, count, timeout);\n    \
                         } while ((result == -1L) && (errno == EINTR));\n    return (uint32_t)result;\n",
                replacement: "    const int result = epoll_wait(*queue, events, count, timeout);\n    \
                              if (result == -1L && errno == EINTR) {\n        return 0;\n    }\n    return (uint32_t)result;\n",
            },
        ],
    },
    Edit {
        name: "one-worker-change-at-a-time",
        prevents: "a client whose packets come from several ports in turn, by itself or by whoever forwards them, has its \
                   connection ids replaced faster than it can say that it gave them back, and aborts the connection",
        changes: &[
            // The port decides on which processor's socket packets arrive, and the connection follows to that processor, each
            // time with all new ids. It now stays where it is until the peer has given back the ones that were replaced.
            Change {
                file: "src/core/connection.c",
                anchor: "void\nQuicConnRecvDatagramBatch(\n",
                replacement: "BOOLEAN\nQuicConnAwaitsRetiredSourceCids(\n    _In_ const QUIC_CONNECTION* Connection\n    )\n{\n    \
                              for (CXPLAT_SLIST_ENTRY* Entry = Connection->SourceCids.Next;\n            \
                              Entry != NULL;\n            Entry = Entry->Next) {\n        \
                              if (CXPLAT_CONTAINING_RECORD(Entry, QUIC_CID_SLIST_ENTRY, Link)->CID.Retired) {\n            \
                              return TRUE;\n        }\n    }\n    return FALSE;\n}\n\n\
                              _IRQL_requires_max_(PASSIVE_LEVEL)\nvoid\nQuicConnRecvDatagramBatch(\n",
            },
            Change {
                file: "src/core/connection.c",
                anchor: "                (Packets[i]->PartitionIndex % MsQuicLib.PartitionCount) != RecvState->PartitionIndex) {\n",
                replacement: "                (Packets[i]->PartitionIndex % MsQuicLib.PartitionCount) != RecvState->PartitionIndex &&\n                \
                              !QuicConnAwaitsRetiredSourceCids(Connection)) {\n",
            },
            // Of two paths whose packets came together, one may lead away and the other back.
            Change {
                file: "src/core/connection.c",
                anchor: "        !Connection->State.ShutdownComplete && RecvState.UpdatePartitionId) {\n",
                replacement: "        !Connection->State.ShutdownComplete && RecvState.UpdatePartitionId &&\n        \
                              RecvState.PartitionIndex != QuicPartitionIdGetIndex(Connection->PartitionID)) {\n",
            },
        ],
    },
    Edit {
        name: "tolerance-within-the-window",
        prevents: "once losses have shrunk the congestion window to fewer packets than the peer was asked to acknowledge at a \
                   time, every window waits for the peer's acknowledgement delay",
        changes: &[
            // The peer is asked for as many only while half of the window holds them, and for no more than by default as soon as
            // a loss leaves less. MsQuic takes back what it asked for on persistent congestion alone.
            Change {
                file: "src/core/send.c",
                anchor: "        if (Builder.TotalCountDatagrams + 1 > Connection->PeerPacketTolerance) {\n",
                replacement: "        if (Builder.TotalCountDatagrams + 1 > Connection->PeerPacketTolerance &&\n            \
                              QuicCongestionControlGetCongestionWindow(&Connection->CongestionControl) >=\n                \
                              2u * (Builder.TotalCountDatagrams + 1) * Connection->Paths[0].Mtu) {\n",
            },
            Change {
                file: "src/core/loss_detection.c",
                anchor: "            QuicCongestionControlOnDataLost(&Connection->CongestionControl, &LossEvent);\n",
                replacement: "            QuicCongestionControlOnDataLost(&Connection->CongestionControl, &LossEvent);\n            \
                              if (QuicCongestionControlGetCongestionWindow(&Connection->CongestionControl) <\n                \
                              2u * Connection->PeerPacketTolerance * Connection->Paths[0].Mtu) {\n                \
                              QuicConnUpdatePeerPacketTolerance(Connection, QUIC_MIN_ACK_SEND_NUMBER);\n            }\n",
            },
        ],
    },
    Edit {
        name: "c-only",
        prevents: "the build asks for a C++ compiler and standard although the library is C",
        changes: &[
            Change { file: "CMakeLists.txt", anchor: "\nproject(msquic)\n", replacement: "\nproject(msquic C)\n" },
            Change {
                file: "src/inc/CMakeLists.txt",
                anchor: "target_compile_features(inc INTERFACE cxx_std_17)\n",
                replacement: "",
            },
        ],
    },
    Edit {
        name: "blocked-answered-with-news-only",
        prevents: "a sender whose stream waits for its reader, and that reader's side, exchange packets as fast as they can until \
                   something is read: some 30,000 a second on one machine",
        changes: &[
            // The sender says STREAM_DATA_BLOCKED again as soon as the last one is acknowledged. The answer, which nobody needs
            // where the sender knows the limit, took the acknowledgement along at once, in place of after its delay.
            Change {
                file: "src/core/stream_recv.c",
                anchor: "            Frame.StreamDataLimit);\n\n        QuicSendSetStreamSendFlag(\n            &Stream->Connection->Send,\n            \
                         Stream,\n            QUIC_STREAM_SEND_FLAG_MAX_DATA,\n            FALSE);\n\n        break;",
                replacement: "            Frame.StreamDataLimit);\n\n        if (Frame.StreamDataLimit < Stream->MaxAllowedRecvOffset) {\n            \
                              QuicSendSetStreamSendFlag(\n                &Stream->Connection->Send,\n                Stream,\n                \
                              QUIC_STREAM_SEND_FLAG_MAX_DATA,\n                FALSE);\n        }\n\n        break;",
            },
        ],
    },
    Edit {
        name: "migration-obeys-the-server",
        prevents: "a client moves to another address although its server has forbidden that",
        changes: &[
            // RFC 9000 section 9 leaves it to the client to obey the transport parameter, and MsQuic leaves it to nobody.
            Change {
                file: "src/core/connection.c",
                anchor: "        return QUIC_STATUS_INVALID_STATE;\n    }\n\n    // Check if the path already exists.\n",
                replacement: "        return QUIC_STATUS_INVALID_STATE;\n    }\n\n    \
                              if (QuicConnIsClient(Connection) &&\n        \
                              (Connection->PeerTransportParams.Flags & QUIC_TP_FLAG_DISABLE_ACTIVE_MIGRATION)) {\n        \
                              return QUIC_STATUS_NOT_SUPPORTED;\n    }\n\n    \
                              // Check if the path already exists.\n",
            },
        ],
    },
    Edit {
        name: "hystart-applied",
        prevents: "switching HyStart on in a configuration has no effect on any connection",
        changes: &[Change {
            file: "src/core/settings.c",
            anchor: "    if (Source->IsSet.EncryptionOffloadAllowed && (!Destination->IsSet.EncryptionOffloadAllowed || OverWrite)) {\n",
            replacement: "    if (Source->IsSet.HyStartEnabled && (!Destination->IsSet.HyStartEnabled || OverWrite)) {\n        \
                              Destination->HyStartEnabled = Source->HyStartEnabled;\n        \
                              Destination->IsSet.HyStartEnabled = TRUE;\n    }\n\n    \
                              if (Source->IsSet.EncryptionOffloadAllowed && (!Destination->IsSet.EncryptionOffloadAllowed || OverWrite)) {\n",
        }],
    },
    Edit {
        name: "retry-names-its-server",
        prevents: "behind a load balancer that reads connection ids, a client that is told to retry comes to a server that cannot \
                   read its token",
        changes: &[
            // The same bytes as in a connection's own ids, see `QuicConnAlloc`. What is left is random enough to differ.
            Change {
                file: "src/core/binding.c",
                anchor: "            CxPlatRandom(CidTotalLength, NewDestCid);\n",
                replacement: "            CxPlatRandom(CidTotalLength, NewDestCid);\n            \
                              if (MsQuicLib.Settings.LoadBalancingMode == QUIC_LOAD_BALANCING_SERVER_ID_FIXED) {\n                \
                              CxPlatCopyMemory(NewDestCid + 1, &MsQuicLib.Settings.FixedServerID, 4);\n            \
                              } else if (MsQuicLib.Settings.LoadBalancingMode == QUIC_LOAD_BALANCING_SERVER_ID_IP) {\n                \
                              const QUIC_ADDR* LocalAddress = &RecvPacket->Route->LocalAddress;\n                \
                              CxPlatCopyMemory(\n                    NewDestCid + 1,\n                    \
                              QuicAddrGetFamily(LocalAddress) == QUIC_ADDRESS_FAMILY_INET ?\n                        \
                              (const uint8_t*)&LocalAddress->Ipv4.sin_addr :\n                        \
                              (const uint8_t*)&LocalAddress->Ipv6.sin6_addr + 12,\n                    4);\n            \
                              }\n",
            },
        ],
    },
    Edit {
        name: "confirmed-handshake-frees-its-address",
        prevents: "a client from the address of another that a server still has, or had some milliseconds ago, is not answered; \
                   and every connection counts as a handshake under way for as long as it lives",
        changes: &[
            // A server finds the connection of a long header's packet by the client's address, and forgets that when the client
            // acknowledges HANDSHAKE_DONE. But the handshake counts as confirmed from the moment that it was sent, and whoever
            // comes later was sent back before it came to that. Path 0 may have another binding by then, or none.
            Change {
                file: "src/core/crypto.c",
                anchor: "    if (Connection->State.HandshakeConfirmed) {\n        return;\n    }\n    \
                         Connection->State.HandshakeConfirmed = TRUE;\n\n    if (SignalBinding) {\n        \
                         QUIC_PATH* Path = &Connection->Paths[0];\n        CXPLAT_DBG_ASSERT(Path->Binding != NULL);\n        \
                         QuicBindingOnConnectionHandshakeConfirmed(Path->Binding, Connection);\n    }\n",
                replacement: "    if (SignalBinding && Connection->RemoteHashEntry != NULL) {\n        \
                              QuicBindingOnConnectionHandshakeConfirmed(\n            \
                              Connection->RemoteHashEntry->Binding, Connection);\n    }\n\n    \
                              if (Connection->State.HandshakeConfirmed) {\n        return;\n    }\n    \
                              Connection->State.HandshakeConfirmed = TRUE;\n",
            },
        ],
    },
    Edit {
        name: "timers-that-pass-meanwhile",
        prevents: "a worker of several registrations, one of whose timers expires while it serves another, sleeps until something comes, \
                   for 49 days at most",
        changes: &[
            // The time left was computed without a sign.
            Change {
                file: "src/platform/platform_worker.c",
                anchor: "    if (NextTime == 0) {\n        Worker->State.WaitTime = 0;\n",
                replacement: "    if (NextTime <= Worker->State.TimeNow) {\n        Worker->State.WaitTime = 0;\n",
            },
        ],
    },
];

/// The edits that only save time. They are made after the others, unless `SENDSTREAM_MSQUIC_SPEED_EDITS` is `off`.
pub(crate) const SPEED_EDITS: &[Edit] = &[
    Edit {
        name: "no-trace-for-nobody",
        prevents: "without logging, each packet's frames are decoded once more, its streams counted, and the arguments of every event computed, for nobody",
        changes: &[
            Change {
                file: "src/inc/quic_trace.h",
                anchor: "#define QuicTraceEventEnabled(Name) TRUE\n\n#define QuicTrace(Name, Fmt, ...)                                              \\\n    \
                         clog((Fmt \" [\" #Name \":%s:%d]\\n\"), ##__VA_ARGS__, __FILE__, __LINE__)\n",
                replacement: "#if defined(QUIC_EVENTS_STDOUT)\n#define QuicTraceEventEnabled(Name) TRUE\n#else\n\
                              #define QuicTraceEventEnabled(Name) FALSE\n#endif\n\n\
                              #define QuicTrace(Name, Fmt, ...)                                              \\\n    \
                              do {                                                                       \\\n        \
                              if (QuicTraceEventEnabled(Name)) {                                     \\\n            \
                              clog((Fmt \" [\" #Name \":%s:%d]\\n\"), ##__VA_ARGS__, __FILE__, __LINE__); \\\n        \
                              }                                                                      \\\n    \
                              } while (0)\n",
            },
            Change {
                file: "src/inc/quic_trace.h",
                anchor: "#define QuicTraceLogErrorEnabled() TRUE\n#define QuicTraceLogWarningEnabled() TRUE\n\
                         #define QuicTraceLogInfoEnabled() TRUE\n#define QuicTraceLogVerboseEnabled() TRUE\n",
                replacement: "#define QuicTraceLogErrorEnabled() QuicTraceEventEnabled(LogError)\n\
                              #define QuicTraceLogWarningEnabled() QuicTraceEventEnabled(LogWarning)\n\
                              #define QuicTraceLogInfoEnabled() QuicTraceEventEnabled(LogInfo)\n\
                              #define QuicTraceLogVerboseEnabled() QuicTraceEventEnabled(LogVerbose)\n",
            },
            Change {
                file: "src/inc/quic_trace.h",
                anchor: "#define QuicTraceLogStreamVerboseEnabled() TRUE\n\n#define QuicTraceLogStreamError(Name, X, Fmt, ...) ",
                replacement: "#define QuicTraceLogStreamVerboseEnabled() QuicTraceEventEnabled(LogStreamVerbose)\n\n\
                              #define QuicTraceLogStreamError(Name, X, Fmt, ...) ",
            },
        ],
    },
    Edit {
        name: "thread-id-remembered",
        prevents: "every send, and every other call that looks whether it is on its connection's own thread, asks the kernel \
                   for the thread's number",
        changes: &[
            // A thread keeps its number for life, but for the one that forks: in the child it is another thread, with the same
            // memory. That one forgets the number before `fork` returns to it; the others are not in the child. Where the
            // handler cannot be registered, nothing is remembered.
            Change {
                file: "src/platform/platform_posix.c",
                anchor: "CXPLAT_THREAD_ID\nCxPlatCurThreadID(\n    void\n    )\n{\n\n// For FreeBSD\n#if defined(__FreeBSD__)\n    \
                         return pthread_getthreadid_np();\n\n#elif defined(CX_PLATFORM_LINUX)\n\n    \
                         CXPLAT_STATIC_ASSERT(sizeof(pid_t) <= sizeof(CXPLAT_THREAD_ID), \"PID size exceeds the expected size\");\n    \
                         return syscall(SYS_gettid);\n",
                replacement: "#if defined(CX_PLATFORM_LINUX)\nstatic __thread CXPLAT_THREAD_ID CxPlatThreadID;\n\
                              static BOOLEAN CxPlatThreadIDForgotten;\n\n\
                              static void CxPlatForgetThreadID(void)\n{\n    CxPlatThreadID = 0;\n}\n\n\
                              __attribute__((constructor))\nstatic void CxPlatForgetThreadIDInChild(void)\n{\n    \
                              CxPlatThreadIDForgotten = pthread_atfork(NULL, NULL, CxPlatForgetThreadID) == 0;\n}\n#endif\n\n\
                              CXPLAT_THREAD_ID\nCxPlatCurThreadID(\n    void\n    )\n{\n\n// For FreeBSD\n#if defined(__FreeBSD__)\n    \
                              return pthread_getthreadid_np();\n\n#elif defined(CX_PLATFORM_LINUX)\n\n    \
                              CXPLAT_STATIC_ASSERT(sizeof(pid_t) <= sizeof(CXPLAT_THREAD_ID), \"PID size exceeds the expected size\");\n    \
                              if (CxPlatThreadID != 0) {\n        return CxPlatThreadID;\n    }\n    \
                              CXPLAT_THREAD_ID ThreadID = (CXPLAT_THREAD_ID)syscall(SYS_gettid);\n    \
                              if (CxPlatThreadIDForgotten) {\n        CxPlatThreadID = ThreadID;\n    }\n    \
                              return ThreadID;\n",
            },
        ],
    },
    Edit {
        name: "send-queue-tail",
        prevents: "a send walks past every send before it that the connection has not come to yet, with a lock held",
        changes: &[
            // The tail means something only while the list has a head, so whoever takes the list away need not know of it.
            Change {
                file: "src/core/stream.h",
                anchor: "    QUIC_SEND_REQUEST* ApiSendRequests;\n",
                replacement: "    QUIC_SEND_REQUEST* ApiSendRequests;\n    QUIC_SEND_REQUEST* ApiSendRequestsLast;\n",
            },
            Change {
                file: "src/core/api.c",
                anchor: "        QUIC_SEND_REQUEST** ApiSendRequestsTail = &Stream->ApiSendRequests;\n        \
                         while (*ApiSendRequestsTail != NULL) {\n            \
                         ApiSendRequestsTail = &((*ApiSendRequestsTail)->Next);\n            \
                         QueueOper = FALSE; // Not necessary if the previous send hasn't been flushed yet.\n        }\n        \
                         *ApiSendRequestsTail = SendRequest;\n",
                replacement: "        if (Stream->ApiSendRequests == NULL) {\n            \
                              Stream->ApiSendRequests = SendRequest;\n        } else {\n            \
                              Stream->ApiSendRequestsLast->Next = SendRequest;\n            \
                              QueueOper = FALSE; // Not necessary if the previous send hasn't been flushed yet.\n        }\n        \
                              Stream->ApiSendRequestsLast = SendRequest;\n",
            },
        ],
    },
    Edit {
        name: "no-clock-around-ciphers",
        prevents: "the clock is read twice for each packet, sent or received, to add up how long ciphers take",
        changes: &[
            // What it would add up, QUIC_PERF_COUNTER_ENCRYPT_DURATION_US and _DECRYPT_, stays 0: whole microseconds, for what
            // takes less than one.
            Change {
                file: "src/core/connection.c",
                anchor: "        uint64_t DecryptStart = CxPlatTimeUs64();\n",
                replacement: "",
            },
            Change {
                file: "src/core/connection.c",
                anchor: "        QuicPerfCounterAdd(\n            Connection->Partition,\n            QUIC_PERF_COUNTER_DECRYPT_DURATION_US,\n            (int64_t)CxPlatTimeDiff64(DecryptStart, CxPlatTimeUs64()));\n",
                replacement: "",
            },
            Change {
                file: "src/core/packet_builder.c",
                anchor: "        uint64_t EncryptStart = CxPlatTimeUs64();\n",
                replacement: "",
            },
            Change {
                file: "src/core/packet_builder.c",
                anchor: "        QuicPerfCounterAdd(\n            Connection->Partition,\n            QUIC_PERF_COUNTER_ENCRYPT_DURATION_US,\n            (int64_t)CxPlatTimeDiff64(EncryptStart, CxPlatTimeUs64()));\n",
                replacement: "",
            },
        ],
    },
    Edit {
        name: "packet-memory-not-cleared",
        prevents: "64 KiB that are about to be overwritten are cleared for each receive and each send",
        changes: &[
            // What stands before the packets, and behind them, is cleared as ever. Of the packets themselves no more is read
            // than was written: the length that the system reports, or the length that was built.
            Change {
                file: "src/platform/datapath_epoll.c",
                anchor: "    struct iovec RecvIov;\n\n    do {\n        uint32_t RetryCount = 0;\n        do {\n            IoBlock = CxPlatPoolAlloc(&DatapathPartition->RecvBlockPool);\n        } while (IoBlock == NULL && ++RetryCount < 10);\n",
                replacement: "    struct iovec RecvIov;\n\n    do {\n        uint32_t RetryCount = 0;\n        do {\n            IoBlock = CxPlatPoolAllocUninitialized(&DatapathPartition->RecvBlockPool);\n        } while (IoBlock == NULL && ++RetryCount < 10);\n        if (IoBlock != NULL) {\n            CxPlatZeroMemory(IoBlock, DatapathPartition->Datapath->RecvBlockBufferOffset);\n        }\n",
            },
            Change {
                file: "src/platform/datapath_epoll.c",
                anchor: "    CXPLAT_SEND_DATA* SendData = CxPlatPoolAlloc(&SocketContext->DatapathPartition->SendBlockPool);\n    if (SendData != NULL) {\n",
                replacement: "    CXPLAT_SEND_DATA* SendData = CxPlatPoolAllocUninitialized(&SocketContext->DatapathPartition->SendBlockPool);\n    if (SendData != NULL) {\n        CxPlatZeroMemory(SendData, offsetof(CXPLAT_SEND_DATA, Buffer));\n        CxPlatZeroMemory(\n            &SendData->TotalBytesSent,\n            Socket->Datapath->SendDataSize - offsetof(CXPLAT_SEND_DATA, TotalBytesSent));\n",
            },
        ],
    },
    Edit {
        name: "no-receive-buffer-to-send",
        prevents: "every unidirectional stream of one's own has 4 KiB of memory for what can never be received",
        changes: &[
            // The mode without memory of MsQuic's. Nothing looks at it: the peer may not send, and who writes to the buffer
            // asks that first.
            Change {
                file: "src/core/stream.c",
                anchor: "        RecvBufferMode = QUIC_RECV_BUF_MODE_MULTIPLE;\n    }\n",
                replacement: "        RecvBufferMode = QUIC_RECV_BUF_MODE_MULTIPLE;\n    }\n    \
                              if (Stream->Flags.Unidirectional && !OpenedRemotely) {\n        \
                              RecvBufferMode = QUIC_RECV_BUF_MODE_APP_OWNED;\n    }\n",
            },
        ],
    },
    Edit {
        name: "small-first-receive-buffer",
        prevents: "every stream that can be received has 4 KiB from the beginning, of which a message seldom needs half",
        changes: &[
            // It doubles as soon as that does not suffice. The handshake keeps what it had.
            Change {
                file: "src/core/quicdef.h",
                anchor: "#define QUIC_DEFAULT_STREAM_RECV_BUFFER_SIZE    0x1000  // 4096",
                replacement: "#define QUIC_DEFAULT_STREAM_RECV_BUFFER_SIZE    0x800  // 2048",
            },
            Change {
                file: "src/core/crypto.c",
                anchor: "            QUIC_MAX_TLS_CLIENT_SEND_BUFFER : QUIC_DEFAULT_STREAM_RECV_BUFFER_SIZE;",
                replacement: "            QUIC_MAX_TLS_CLIENT_SEND_BUFFER : 0x1000;",
            },
        ],
    },
    Edit {
        name: "workers-poll-while-busy",
        prevents: "a worker without work for some microseconds sleeps, and takes tens of them to wake; or, where it is told to poll, \
                   polls after everything it does, however long it will have nothing to do",
        changes: &[
            // The average counts no pause as longer than four times the timeout, so that a few short ones are enough to begin to poll
            // with, and one long one in four to stop.
            Change {
                file: "src/platform/platform_worker.c",
                anchor: "    CXPLAT_EXECUTION_STATE State;\n",
                replacement: "    CXPLAT_EXECUTION_STATE State;\n\
                              \n    \
                              uint32_t PollingIdleTimeoutUs;\n    \
                              uint32_t PausesTimesEight;\n    \
                              uint64_t PauseStart;\n",
            },
            Change {
                file: "src/platform/platform_worker.c",
                anchor: "CXPLAT_THREAD_CALLBACK(CxPlatWorkerThread, Context)\n\
                         {\n",
                replacement: "void\n\
                              CxPlatWorkerPoolSetPollingIdleTimeout(\n    \
                              _In_ CXPLAT_WORKER_POOL* WorkerPool,\n    \
                              _In_ uint32_t PollingIdleTimeoutUs\n    \
                              )\n\
                              {\n    \
                              for (uint32_t i = 0; i < WorkerPool->WorkerCount; ++i) {\n        \
                              WorkerPool->Workers[i].PollingIdleTimeoutUs = PollingIdleTimeoutUs;\n    \
                              }\n\
                              }\n\
                              \n\
                              static\n\
                              BOOLEAN\n\
                              CxPlatWorkerKeepsPolling(\n    \
                              _Inout_ CXPLAT_WORKER* Worker\n    \
                              )\n\
                              {\n    \
                              if (Worker->PauseStart == 0) {\n        \
                              Worker->PauseStart = Worker->State.TimeNow;\n    \
                              }\n    \
                              return\n        \
                              Worker->PausesTimesEight / 8 < Worker->PollingIdleTimeoutUs &&\n        \
                              Worker->State.TimeNow - Worker->PauseStart < Worker->PollingIdleTimeoutUs;\n\
                              }\n\
                              \n\
                              static\n\
                              void\n\
                              CxPlatWorkerEndPause(\n    \
                              _Inout_ CXPLAT_WORKER* Worker\n    \
                              )\n\
                              {\n    \
                              if (Worker->PauseStart != 0) {\n        \
                              const uint64_t Pause = Worker->State.TimeNow - Worker->PauseStart;\n        \
                              Worker->PausesTimesEight +=\n            \
                              (uint32_t)CXPLAT_MIN(Pause, 4ull * Worker->PollingIdleTimeoutUs) -\n            \
                              Worker->PausesTimesEight / 8;\n        \
                              Worker->PauseStart = 0;\n    \
                              }\n\
                              }\n\
                              \n\
                              CXPLAT_THREAD_CALLBACK(CxPlatWorkerThread, Context)\n\
                              {\n",
            },
            // A worker that polls still counts as running, so whoever has work for it need not wake it. Where others wait for its
            // processor, they get it.
            Change {
                file: "src/platform/platform_worker.c",
                anchor: "        Worker->State.TimeNow = CxPlatTimeUs64();\n\
                         \n        \
                         CxPlatRunExecutionContexts(Worker);\n        \
                         if (Worker->State.WaitTime && InterlockedFetchAndClearBoolean(&Worker->Running)) {\n            \
                         Worker->State.TimeNow = CxPlatTimeUs64();\n            \
                         CxPlatRunExecutionContexts(Worker); // Run once more to handle race conditions\n        \
                         }\n\
                         \n        \
                         CxPlatProcessEvents(Worker);\n\
                         \n        \
                         if (Worker->State.NoWorkCount == 0) {\n            \
                         Worker->State.LastWorkTime = Worker->State.TimeNow;\n        \
                         } else",
                replacement: "        Worker->State.TimeNow = CxPlatTimeUs64();\n\
                              \n        \
                              CxPlatRunExecutionContexts(Worker);\n        \
                              if (Worker->State.WaitTime && CxPlatWorkerKeepsPolling(Worker)) {\n            \
                              Worker->State.WaitTime = 0;\n        \
                              } else if (Worker->State.WaitTime && InterlockedFetchAndClearBoolean(&Worker->Running)) {\n            \
                              Worker->State.TimeNow = CxPlatTimeUs64();\n            \
                              CxPlatRunExecutionContexts(Worker); // Run once more to handle race conditions\n        \
                              }\n\
                              \n        \
                              CxPlatProcessEvents(Worker);\n\
                              \n        \
                              if (Worker->State.NoWorkCount == 0) {\n            \
                              Worker->State.LastWorkTime = Worker->State.TimeNow;\n            \
                              CxPlatWorkerEndPause(Worker);\n        \
                              } else if (Worker->PauseStart != 0 && Worker->State.WaitTime == 0) {\n            \
                              CxPlatSchedulerYield();\n        \
                              } else",
            },
            // The end of a pause is when it ended, not when the worker lay down.
            Change {
                file: "src/platform/platform_worker.c",
                anchor: "            Worker->State.WaitTime);\n    \
                         uint32_t CurrentCqeCount = CqeCount;\n",
                replacement: "            Worker->State.WaitTime);\n    \
                              if (Worker->State.WaitTime != 0) {\n        \
                              Worker->State.TimeNow = CxPlatTimeUs64();\n    \
                              }\n    \
                              uint32_t CurrentCqeCount = CqeCount;\n",
            },
            Change {
                file: "src/inc/quic_platform.h",
                anchor: "uint32_t\n\
                         CxPlatWorkerPoolWorkerPoll(\n    \
                         _In_ QUIC_EXECUTION* Execution\n    \
                         );\n",
                replacement: "uint32_t\n\
                              CxPlatWorkerPoolWorkerPoll(\n    \
                              _In_ QUIC_EXECUTION* Execution\n    \
                              );\n\
                              \n\
                              void\n\
                              CxPlatWorkerPoolSetPollingIdleTimeout(\n    \
                              _In_ CXPLAT_WORKER_POOL* WorkerPool,\n    \
                              _In_ uint32_t PollingIdleTimeoutUs\n    \
                              );\n",
            },
            // MsQuic calls this when it starts and for every later change, and does nothing here on Linux.
            Change {
                file: "src/platform/datapath_linux.c",
                anchor: "    UNREFERENCED_PARAMETER(Datapath);\n    \
                         UNREFERENCED_PARAMETER(PollingIdleTimeoutUs);\n",
                replacement: "    CxPlatWorkerPoolSetPollingIdleTimeout(Datapath->WorkerPool, PollingIdleTimeoutUs);\n",
            },
            Change {
                file: "src/core/library.c",
                anchor: "            CxPlatDataPathUpdatePollingIdleTimeout(\n                \
                         MsQuicLib.Datapath, Config->PollingIdleTimeoutUs);\n            \
                         Status = QUIC_STATUS_SUCCESS;\n",
                replacement: "            CxPlatDataPathUpdatePollingIdleTimeout(\n                \
                              MsQuicLib.Datapath, Config->PollingIdleTimeoutUs);\n            \
                              if (MsQuicLib.ExecutionConfig != NULL) {\n                \
                              MsQuicLib.ExecutionConfig->PollingIdleTimeoutUs = Config->PollingIdleTimeoutUs;\n            \
                              }\n            \
                              Status = QUIC_STATUS_SUCCESS;\n",
            },
            // MsQuic's own way: every worker, after each bit of work, however long its pauses are. Peers are told, and acknowledgements
            // made, as if it were so; these two say what they say without polling.
            Change {
                file: "src/core/worker.c",
                anchor: "    if (MsQuicLib.ExecutionConfig &&\n        \
                         (uint64_t)MsQuicLib.ExecutionConfig->PollingIdleTimeoutUs >\n            \
                         CxPlatTimeDiff64(State->LastWorkTime, State->TimeNow)) {\n        \
                         //\n        \
                         // Busy loop for a while to keep the thread hot in case new work comes\n        \
                         // in.\n        \
                         //\n        \
                         Worker->ExecutionContext.Ready = TRUE;\n        \
                         return TRUE;\n    \
                         }\n\
                         \n",
                replacement: "",
            },
            Change {
                file: "src/core/connection.c",
                anchor: "    LocalTP->MinAckDelay =\n        \
                         MsQuicLib.ExecutionConfig != NULL &&\n        \
                         MsQuicLib.ExecutionConfig->PollingIdleTimeoutUs != 0 ?\n            \
                         0 : MS_TO_US(MsQuicLib.TimerResolutionMs);\n",
                replacement: "    LocalTP->MinAckDelay = MS_TO_US(MsQuicLib.TimerResolutionMs);\n",
            },
            Change {
                file: "src/core/connection.h",
                anchor: "    if (Connection->Settings.MaxAckDelayMs &&\n        \
                         (MsQuicLib.ExecutionConfig == NULL ||\n         \
                         Connection->Settings.MaxAckDelayMs > US_TO_MS(MsQuicLib.ExecutionConfig->PollingIdleTimeoutUs))) {\n",
                replacement: "    if (Connection->Settings.MaxAckDelayMs) {\n",
            },
        ],
    },
    Edit {
        name: "workers-can-be-lent",
        prevents: "an application with a loop of its own has what MsQuic brings, and what it sends, handed from thread to thread each time",
        changes: &[
            Change {
                file: "src/inc/quic_platform.h",
                anchor: "void\n\
                         CxPlatWorkerPoolSetPollingIdleTimeout(\n",
                replacement: "typedef BOOLEAN (*CXPLAT_WORKER_WAKE)(uint32_t Index);\n\
                              \n\
                              typedef struct CXPLAT_WORKER_LENDING {\n    \
                              CXPLAT_WORKER_POOL* WorkerPool;\n    \
                              uint32_t Count;\n    \
                              int (*GetDescriptor)(CXPLAT_WORKER_POOL* WorkerPool, uint32_t Index);\n    \
                              void (*SetLent)(CXPLAT_WORKER_POOL* WorkerPool, uint32_t Index, CXPLAT_WORKER_WAKE Wake);\n    \
                              uint32_t (*TakeTurn)(CXPLAT_WORKER_POOL* WorkerPool, uint32_t Index, BOOLEAN HasEvents);\n\
                              } CXPLAT_WORKER_LENDING;\n\
                              \n\
                              void\n\
                              CxPlatWorkerPoolGetLending(\n    \
                              _In_ CXPLAT_WORKER_POOL* WorkerPool,\n    \
                              _Out_ CXPLAT_WORKER_LENDING* Lending\n    \
                              );\n\
                              \n\
                              void\n\
                              CxPlatWorkerPoolSetPollingIdleTimeout(\n",
            },
            Change {
                file: "src/platform/platform_worker.c",
                anchor: "    uint32_t PollingIdleTimeoutUs;\n    \
                         uint32_t PausesTimesEight;\n",
                replacement: "    //\n    \
                              // The worker is lent while Lent is set. Who has set InTurn runs it, its own thread unless it is lent.\n    \
                              //\n    \
                              CXPLAT_WORKER_WAKE Wake;\n    \
                              CXPLAT_EVENT GivenBack;\n    \
                              uint64_t NextTurnUs;\n    \
                              uint64_t EventsUs; // When it was last looked for events.\n    \
                              uint32_t Index;\n    \
                              uint32_t Turns;\n    \
                              BOOLEAN Lent;\n    \
                              BOOLEAN InTurn;\n    \
                              BOOLEAN HasEvents;\n    \
                              BOOLEAN Wanted;\n\
                              \n    \
                              uint32_t PollingIdleTimeoutUs;\n    \
                              uint32_t PausesTimesEight;\n",
            },
            Change {
                file: "src/platform/platform_worker.c",
                anchor: "    CxPlatLockInitialize(&Worker->ECLock);\n",
                replacement: "    CxPlatEventInitialize(&Worker->GivenBack, FALSE, FALSE);\n    \
                              CxPlatLockInitialize(&Worker->ECLock);\n",
            },
            Change {
                file: "src/platform/platform_worker.c",
                anchor: "        CxPlatLockUninitialize(&Worker->ECLock);\n",
                replacement: "        CxPlatLockUninitialize(&Worker->ECLock);\n        \
                              CxPlatEventUninitialize(Worker->GivenBack);\n",
            },
            // A worker belongs to its thread even before that one runs.
            Change {
                file: "src/platform/platform_worker.c",
                anchor: "        ThreadConfig->Context = Worker;\n",
                replacement: "        ThreadConfig->Context = Worker;\n        \
                              Worker->InTurn = TRUE;\n",
            },
            // Whoever has work for a worker wakes the loop that it is lent to, which may be on that very thread: then it costs no
            // system call, and nobody else is woken.
            Change {
                file: "src/platform/platform_worker.c",
                anchor: "    if (!InterlockedFetchAndSetBoolean(&Worker->Running)) {\n        \
                         CxPlatEventQEnqueue(&Worker->EventQ, &Worker->WakeSqe);\n",
                replacement: "    if (!InterlockedFetchAndSetBoolean(&Worker->Running) &&\n        \
                              !(Worker->Lent && Worker->Wake != NULL && Worker->Wake(Worker->Index))) {\n        \
                              CxPlatEventQEnqueue(&Worker->EventQ, &Worker->WakeSqe);\n",
            },
            Change {
                file: "src/platform/platform_worker.c",
                anchor: "CXPLAT_THREAD_CALLBACK(CxPlatWorkerThread, Context)\n\
                         {\n",
                replacement: concat!(
                    include_str!("lending.c"),
                    "CXPLAT_THREAD_CALLBACK(CxPlatWorkerThread, Context)\n\
                     {\n"
                ),
            },
            Change {
                file: "src/platform/platform_worker.c",
                anchor: "    Worker->Running = TRUE;\n\
                         \n    \
                         while (!Worker->StoppedThread) {\n\
                         \n",
                replacement: "    Worker->Running = TRUE;\n\
                              \n    \
                              while (!Worker->StoppedThread) {\n\
                              \n        \
                              if (Worker->Lent) {\n            \
                              CxPlatLentWorkerStandBy(Worker);\n            \
                              continue;\n        \
                              }\n\
                              \n",
            },
            Change {
                file: "src/core/library.c",
                anchor: "    case QUIC_PARAM_GLOBAL_IN_USE:\n",
                replacement: "    case 0x01005355: // QUIC_PARAM_GLOBAL_WORKER_LENDING\n\
                              \n        \
                              if (*BufferLength != sizeof(CXPLAT_WORKER_LENDING)) {\n            \
                              *BufferLength = sizeof(CXPLAT_WORKER_LENDING);\n            \
                              Status = QUIC_STATUS_BUFFER_TOO_SMALL;\n            \
                              break;\n        \
                              }\n\
                              \n        \
                              if (Buffer == NULL) {\n            \
                              Status = QUIC_STATUS_INVALID_PARAMETER;\n            \
                              break;\n        \
                              }\n\
                              \n        \
                              if (MsQuicLib.WorkerPool == NULL || MsQuicLib.CustomExecutions) {\n            \
                              Status = QUIC_STATUS_INVALID_STATE;\n            \
                              break;\n        \
                              }\n\
                              \n        \
                              CxPlatWorkerPoolGetLending(MsQuicLib.WorkerPool, Buffer);\n        \
                              Status = QUIC_STATUS_SUCCESS;\n        \
                              break;\n\
                              \n    \
                              case QUIC_PARAM_GLOBAL_IN_USE:\n",
            },
        ],
    },
    Edit {
        name: "pools-without-recursion",
        prevents: "every piece of memory that a pool gives or takes goes through a mutex that counts how often its owner has it",
        changes: &[
            // Nothing is called under it. In the Debug profile it would be an error to take it twice.
            Change {
                file: "src/inc/quic_platform_posix.h",
                anchor: "    Pool->Tag = Tag;\n    \
                         CxPlatLockInitialize(&Pool->Lock);\n",
                replacement: "    Pool->Tag = Tag;\n\
                              #if DEBUG\n    \
                              pthread_mutexattr_t Attr;\n    \
                              CXPLAT_FRE_ASSERT(pthread_mutexattr_init(&Attr) == 0);\n    \
                              CXPLAT_FRE_ASSERT(pthread_mutexattr_settype(&Attr, PTHREAD_MUTEX_ERRORCHECK) == 0);\n    \
                              CXPLAT_FRE_ASSERT(pthread_mutex_init(&Pool->Lock.Mutex, &Attr) == 0);\n    \
                              CXPLAT_FRE_ASSERT(pthread_mutexattr_destroy(&Attr) == 0);\n\
                              #else\n    \
                              CXPLAT_FRE_ASSERT(pthread_mutex_init(&Pool->Lock.Mutex, NULL) == 0);\n\
                              #endif\n",
            },
        ],
    },
    Edit {
        name: "no-clock-for-nobody",
        prevents: "the clock is read twice for each operation, though the delays of two kinds alone are added up, and for each stream \
                   to tell times that nobody waits for",
        changes: &[
            Change {
                file: "src/core/operation.h",
                anchor: "typedef struct QUIC_OPERATION {\n",
                replacement: "#define QuicOperationIsTimed(Oper) \\\n    \
                              ((Oper)->Type == QUIC_OPER_TYPE_FLUSH_RECV || (Oper)->Type == QUIC_OPER_TYPE_FLUSH_SEND)\n\
                              \n\
                              typedef struct QUIC_OPERATION {\n",
            },
            Change {
                file: "src/core/operation.c",
                anchor: "    BOOLEAN StartProcessing;\n    \
                         Oper->QueueTimeUs = CxPlatTimeUs32();\n    \
                         CxPlatDispatchLockAcquire(&OperQ->Lock);\n\
                         #if DEBUG\n    \
                         CXPLAT_DBG_ASSERT(Oper->Link.Flink == NULL);\n\
                         #endif\n    \
                         StartProcessing = CxPlatListIsEmpty(&OperQ->List) && !OperQ->ActivelyProcessing;\n    \
                         CxPlatListInsertTail(&OperQ->List, &Oper->Link);\n",
                replacement: "    BOOLEAN StartProcessing;\n    \
                              if (QuicOperationIsTimed(Oper)) {\n        \
                              Oper->QueueTimeUs = CxPlatTimeUs32();\n    \
                              }\n    \
                              CxPlatDispatchLockAcquire(&OperQ->Lock);\n\
                              #if DEBUG\n    \
                              CXPLAT_DBG_ASSERT(Oper->Link.Flink == NULL);\n\
                              #endif\n    \
                              StartProcessing = CxPlatListIsEmpty(&OperQ->List) && !OperQ->ActivelyProcessing;\n    \
                              CxPlatListInsertTail(&OperQ->List, &Oper->Link);\n",
            },
            Change {
                file: "src/core/connection.c",
                anchor: "    uint32_t DelayUs = CxPlatTimeDiff32(Oper->QueueTimeUs, CxPlatTimeUs32());\n",
                replacement: "    if (!QuicOperationIsTimed(Oper)) {\n        \
                              return;\n    \
                              }\n    \
                              uint32_t DelayUs = CxPlatTimeDiff32(Oper->QueueTimeUs, CxPlatTimeUs32());\n",
            },
            // How long the connection has been blocked already, which it mostly is not.
            Change {
                file: "src/core/stream.c",
                anchor: "    uint64_t Now = CxPlatTimeUs64();\n    \
                         Stream->BlockedTimings.CachedConnSchedulingUs =\n",
                replacement: "    const uint64_t Now =\n        \
                              Stream->Connection->BlockedTimings.Scheduling.LastStartTimeUs != 0 ||\n        \
                              Stream->Connection->BlockedTimings.Pacing.LastStartTimeUs != 0 ||\n        \
                              Stream->Connection->BlockedTimings.AmplificationProt.LastStartTimeUs != 0 ||\n        \
                              Stream->Connection->BlockedTimings.CongestionControl.LastStartTimeUs != 0 ||\n        \
                              Stream->Connection->BlockedTimings.FlowControl.LastStartTimeUs != 0 ?\n            \
                              CxPlatTimeUs64() : 0;\n    \
                              Stream->BlockedTimings.CachedConnSchedulingUs =\n",
            },
            // The beginning of measuring how fast the application reads.
            Change {
                file: "src/core/stream.c",
                anchor: "    Stream->RecvWindowLastUpdate = CxPlatTimeUs64();\n",
                replacement: "    if (Stream->Flags.ReceiveEnabled) {\n        \
                              Stream->RecvWindowLastUpdate = CxPlatTimeUs64();\n    \
                              }\n",
            },
        ],
    },
    Edit {
        name: "memory-cleared-once",
        prevents: "every stream is cleared twice, and its first receive buffer, which what arrives is about to be written to, once for nothing",
        changes: &[
            // It is cleared right below.
            Change {
                file: "src/core/stream.c",
                anchor: "    Stream = CxPlatPoolAlloc(&Connection->Partition->StreamPool);\n",
                replacement: "    Stream = CxPlatPoolAllocUninitialized(&Connection->Partition->StreamPool);\n",
            },
            // Nothing of the buffer is read but what was written, as with the larger ones that come after it, which are never cleared.
            Change {
                file: "src/core/stream.c",
                anchor: "            CxPlatPoolAlloc(&Connection->Partition->DefaultReceiveBufferPool);\n        \
                         if (PreallocatedRecvChunk == NULL) {\n            \
                         Status = QUIC_STATUS_OUT_OF_MEMORY;\n            \
                         goto Exit;\n        \
                         }\n",
                replacement: "            CxPlatPoolAllocUninitialized(&Connection->Partition->DefaultReceiveBufferPool);\n        \
                              if (PreallocatedRecvChunk == NULL) {\n            \
                              Status = QUIC_STATUS_OUT_OF_MEMORY;\n            \
                              goto Exit;\n        \
                              }\n        \
                              CxPlatZeroMemory(PreallocatedRecvChunk, sizeof(QUIC_RECV_CHUNK));\n",
            },
            Change {
                file: "src/core/connection.c",
                anchor: "    QUIC_CONNECTION* Connection = CxPlatPoolAlloc(&Partition->ConnectionPool);\n",
                replacement: "    QUIC_CONNECTION* Connection = CxPlatPoolAllocUninitialized(&Partition->ConnectionPool);\n",
            },
        ],
    },
    Edit {
        name: "whole-messages-in-place",
        prevents: "a stream whose last missing byte has come waits in a queue, with an operation of its own, before it is given to the application",
        changes: &[
            // As for a FIN that comes alone. What is delivered later is delivered once for several packets; here nothing more can come.
            Change {
                file: "src/core/stream_recv.c",
                anchor: "            Stream->RecvBuffer.BaseOffset == Stream->RecvMaxLength);\n",
                replacement: "            Stream->RecvBuffer.BaseOffset == Stream->RecvMaxLength ||\n            \
                              QuicRecvBufferIsWhole(&Stream->RecvBuffer, Stream->RecvMaxLength));\n",
            },
            Change {
                file: "src/core/recv_buffer.h",
                anchor: "//\n\
                         // Returns TRUE there is any unread data in the receive buffer.\n\
                         //\n",
                replacement: "//\n\
                              // Returns TRUE if every byte up to Length is there, or was.\n\
                              //\n\
                              _IRQL_requires_max_(DISPATCH_LEVEL)\n\
                              BOOLEAN\n\
                              QuicRecvBufferIsWhole(\n    \
                              _In_ QUIC_RECV_BUFFER* RecvBuffer,\n    \
                              _In_ uint64_t Length\n    \
                              );\n\
                              \n\
                              //\n\
                              // Returns TRUE there is any unread data in the receive buffer.\n\
                              //\n",
            },
            Change {
                file: "src/core/recv_buffer.c",
                anchor: "_IRQL_requires_max_(DISPATCH_LEVEL)\n\
                         BOOLEAN\n\
                         QuicRecvBufferHasUnreadData(\n",
                replacement: "_IRQL_requires_max_(DISPATCH_LEVEL)\n\
                              BOOLEAN\n\
                              QuicRecvBufferIsWhole(\n    \
                              _In_ QUIC_RECV_BUFFER* RecvBuffer,\n    \
                              _In_ uint64_t Length\n    \
                              )\n\
                              {\n    \
                              const QUIC_SUBRANGE* FirstRange = QuicRangeGetSafe(&RecvBuffer->WrittenRanges, 0);\n    \
                              return FirstRange != NULL && FirstRange->Low == 0 && FirstRange->Count == Length;\n\
                              }\n\
                              \n\
                              _IRQL_requires_max_(DISPATCH_LEVEL)\n\
                              BOOLEAN\n\
                              QuicRecvBufferHasUnreadData(\n",
            },
        ],
    },
    Edit {
        name: "receives-are-announced",
        prevents: "an application cannot tell which events come of packets that were received together, and so wakes its tasks, on other \
                   processors, one by one and while the rest is being worked at",
        changes: &[
            Change {
                file: "src/core/library.h",
                anchor: "    BOOLEAN SendRetryEnabled;\n",
                replacement: "    BOOLEAN SendRetryEnabled;\n\
                              \n    \
                              //\n    \
                              // Called with TRUE before a connection works at what it has received, and with\n    \
                              // FALSE after that, on the same thread.\n    \
                              //\n    \
                              void (*ReceiveBracket)(BOOLEAN Begins);\n",
            },
            // Beyond the numbers that MsQuic has, and known to this library only: others refuse it. Set before anything else is.
            Change {
                file: "src/core/library.c",
                anchor: "    QUIC_SETTINGS_INTERNAL InternalSettings = {0};\n\
                         \n    \
                         CXPLAT_DBG_ASSERT(MsQuicLib.Loaded);\n\
                         \n    \
                         switch (Param) {\n    \
                         case QUIC_PARAM_GLOBAL_RETRY_MEMORY_PERCENT:\n",
                replacement: "    QUIC_SETTINGS_INTERNAL InternalSettings = {0};\n\
                              \n    \
                              CXPLAT_DBG_ASSERT(MsQuicLib.Loaded);\n\
                              \n    \
                              switch (Param) {\n    \
                              case 0x01005353: // QUIC_PARAM_GLOBAL_RECEIVE_BRACKET\n\
                              \n        \
                              if (BufferLength != sizeof(MsQuicLib.ReceiveBracket)) {\n            \
                              Status = QUIC_STATUS_INVALID_PARAMETER;\n            \
                              break;\n        \
                              }\n\
                              \n        \
                              CxPlatCopyMemory(&MsQuicLib.ReceiveBracket, Buffer, BufferLength);\n        \
                              break;\n\
                              \n    \
                              case QUIC_PARAM_GLOBAL_RETRY_MEMORY_PERCENT:\n",
            },
            Change {
                file: "src/core/connection.c",
                anchor: "            if (!QuicConnFlushRecv(Connection)) {\n",
                replacement: "            if (MsQuicLib.ReceiveBracket != NULL) {\n                \
                              MsQuicLib.ReceiveBracket(TRUE);\n            \
                              }\n            \
                              const BOOLEAN ReceivedAll = QuicConnFlushRecv(Connection);\n            \
                              if (MsQuicLib.ReceiveBracket != NULL) {\n                \
                              MsQuicLib.ReceiveBracket(FALSE);\n            \
                              }\n            \
                              if (!ReceivedAll) {\n",
            },
        ],
    },
    Edit {
        name: "unstarted-parameters-in-place",
        prevents: "whoever makes a connection waits until a worker has woken to note the addresses, twice or three times",
        changes: &[
            // The parameters that come before every start. Nothing was ever queued on such a connection, so that no worker looks at
            // it, and its one user has not shared it yet.
            Change {
                file: "src/core/api.c",
                anchor: "        Status = QuicLibrarySetParam(Handle, Param, BufferLength, Buffer);\n        \
                         if (!AlreadyInline) {\n            \
                         Connection->State.InlineApiExecution = FALSE;\n        \
                         }\n        \
                         goto Error;\n    \
                         }\n",
                replacement: "        Status = QuicLibrarySetParam(Handle, Param, BufferLength, Buffer);\n        \
                              if (!AlreadyInline) {\n            \
                              Connection->State.InlineApiExecution = FALSE;\n        \
                              }\n        \
                              goto Error;\n    \
                              }\n\
                              \n    \
                              if (Handle->Type == QUIC_HANDLE_TYPE_CONNECTION_CLIENT &&\n        \
                              (Param == QUIC_PARAM_CONN_LOCAL_ADDRESS || Param == QUIC_PARAM_CONN_REMOTE_ADDRESS ||\n         \
                              Param == QUIC_PARAM_CONN_TLS_SECRETS) &&\n        \
                              Connection->Stats.Schedule.DrainCount == 0 && CxPlatListIsEmpty(&Connection->OperQ.List)) {\n        \
                              Status = QuicLibrarySetParam(Handle, Param, BufferLength, Buffer);\n        \
                              goto Error;\n    \
                              }\n",
            },
        ],
    },
    Edit {
        name: "tls-ends-with-handshake",
        prevents: "a client keeps OpenSSL's connection and the buffers of the handshake, two thirds of the memory that an idle connection \
                   takes, for session tickets that it does not want",
        changes: &[
            // Beyond the numbers that MsQuic has, and known to this library only: others refuse it.
            Change {
                file: "src/core/connection.c",
                anchor: "    case QUIC_PARAM_CONN_TLS_SECRETS:\n\n        if (BufferLength != sizeof(QUIC_TLS_SECRETS) || Buffer == NULL) {",
                replacement: "    case 0x05005354: // QUIC_PARAM_CONN_TLS_ENDS_WITH_HANDSHAKE\n\
                              \n        \
                              if (BufferLength != sizeof(uint8_t) || Buffer == NULL) {\n            \
                              Status = QUIC_STATUS_INVALID_PARAMETER;\n            \
                              break;\n        \
                              }\n\
                              \n        \
                              if (QuicConnIsServer(Connection) || QUIC_CONN_BAD_START_STATE(Connection)) {\n            \
                              Status = QUIC_STATUS_INVALID_STATE;\n            \
                              break;\n        \
                              }\n\
                              \n        \
                              Connection->Crypto.EndsWithHandshake = *(const uint8_t*)Buffer != 0;\n        \
                              Status = QUIC_STATUS_SUCCESS;\n        \
                              break;\n\
                              \n    \
                              case QUIC_PARAM_CONN_TLS_SECRETS:\n\n        \
                              if (BufferLength != sizeof(QUIC_TLS_SECRETS) || Buffer == NULL) {",
            },
            Change {
                file: "src/core/crypto.h",
                anchor: "    BOOLEAN CertValidationPending : 1;\n",
                replacement: "    BOOLEAN CertValidationPending : 1;\n\
                              \n    \
                              //\n    \
                              // Indicates a client that needs no TLS once the handshake is confirmed.\n    \
                              //\n    \
                              BOOLEAN EndsWithHandshake : 1;\n",
            },
            // As a server that has no more tickets to send does it, but between operations, when nobody is in the midst of reading. The
            // server may confirm the handshake before this side is done with it, which is while a verdict on its certificate is due.
            // Once both are, a client has nothing in flight that TLS gave it, as the keys of the handshake are gone.
            Change {
                file: "src/core/connection.c",
                anchor: "    if (Connection->State.ProcessShutdownComplete) {\n        \
                         QuicConnOnShutdownComplete(Connection);\n    \
                         }\n\
                         \n    \
                         if (!Connection->State.ShutdownComplete) {\n        \
                         if (OperationCount >= MaxOperationCount &&\n",
                replacement: "    QUIC_CRYPTO* Crypto = &Connection->Crypto;\n    \
                              if (Crypto->EndsWithHandshake && Crypto->Initialized &&\n        \
                              Connection->State.Connected && Connection->State.HandshakeConfirmed) {\n        \
                              CxPlatTlsUninitialize(Crypto->TLS);\n        \
                              Crypto->TLS = NULL;\n        \
                              QuicRecvBufferUninitialize(&Crypto->RecvBuffer);\n        \
                              QuicRangeUninitialize(&Crypto->SparseAckRanges);\n        \
                              CXPLAT_FREE(Crypto->TlsState.Buffer, QUIC_POOL_TLS_BUFFER);\n        \
                              Crypto->TlsState.Buffer = NULL;\n        \
                              Crypto->Initialized = FALSE;\n    \
                              }\n\
                              \n    \
                              if (Connection->State.ProcessShutdownComplete) {\n        \
                              QuicConnOnShutdownComplete(Connection);\n    \
                              }\n\
                              \n    \
                              if (!Connection->State.ShutdownComplete) {\n        \
                              if (OperationCount >= MaxOperationCount &&\n",
            },
            // What comes afterwards is tickets, which nobody wants, or must not come (RFC 9001, section 6; RFC 8446, section 4.6).
            Change {
                file: "src/core/crypto.c",
                anchor: "    } else if (!Crypto->Initialized) {\n\
                         \n        \
                         Status = QUIC_STATUS_SUCCESS;\n",
                replacement: "    } else if (!Crypto->Initialized) {\n\
                              \n        \
                              const uint8_t NewSessionTicket = 4;\n        \
                              if (Crypto->EndsWithHandshake && Frame->Offset == 0 && Frame->Data[0] != NewSessionTicket) {\n            \
                              const uint8_t UnexpectedMessage = 10;\n            \
                              QuicConnTransportError(Connection, QUIC_ERROR_CRYPTO_ERROR(UnexpectedMessage));\n            \
                              Status = QUIC_STATUS_INVALID_STATE;\n            \
                              goto Error;\n        \
                              }\n        \
                              Status = QUIC_STATUS_SUCCESS;\n",
            },
            Change {
                file: "src/core/api.c",
                anchor: "        (Param == QUIC_PARAM_CONN_LOCAL_ADDRESS || Param == QUIC_PARAM_CONN_REMOTE_ADDRESS ||\n",
                replacement: "        (Param == QUIC_PARAM_CONN_LOCAL_ADDRESS || Param == QUIC_PARAM_CONN_REMOTE_ADDRESS ||\n         \
                              Param == 0x05005354 || // QUIC_PARAM_CONN_TLS_ENDS_WITH_HANDSHAKE\n",
            },
        ],
    },
    Edit {
        name: "small-hash-tables",
        prevents: "each hash table begins with 128 buckets, 2 KiB; a client has one for each connection that nothing is ever put into",
        changes: &[
            // They grow bucket by bucket as they are filled, up to as many as before.
            Change {
                file: "src/platform/hashtable.c",
                anchor: "#define HT_FIRST_LEVEL_DIR_SIZE   16\n#define HT_SECOND_LEVEL_DIR_SHIFT  7\n",
                replacement: "#define HT_FIRST_LEVEL_DIR_SIZE   19\n#define HT_SECOND_LEVEL_DIR_SHIFT  4\n",
            },
            Change {
                file: "src/inc/quic_hashtable.h",
                anchor: "#define CXPLAT_HASH_MIN_SIZE 128\n",
                replacement: "#define CXPLAT_HASH_MIN_SIZE 16\n",
            },
        ],
    },
    Edit {
        name: "receive-buffer-while-needed",
        prevents: "every open stream that can be received on has 2 KiB of memory for what is not there",
        changes: &[
            // Of MsQuic's kinds of buffers this is the one that Sendstream's streams have. Without memory it is as one whose memory is
            // the application's to provide; that of the first size is given back as soon as everything that came is, what has grown
            // stays.
            Change {
                file: "src/core/stream.c",
                anchor: "    if (InitialRecvBufferLength == QUIC_DEFAULT_STREAM_RECV_BUFFER_SIZE &&\n        \
                         RecvBufferMode != QUIC_RECV_BUF_MODE_APP_OWNED) {\n",
                replacement: "    if (InitialRecvBufferLength == QUIC_DEFAULT_STREAM_RECV_BUFFER_SIZE &&\n        \
                              RecvBufferMode == QUIC_RECV_BUF_MODE_CIRCULAR) {\n",
            },
            Change {
                file: "src/core/recv_buffer.c",
                anchor: "    if (RecvMode != QUIC_RECV_BUF_MODE_APP_OWNED) {\n        //\n        // Setup an initial chunk.\n",
                replacement: "    if (RecvMode != QUIC_RECV_BUF_MODE_APP_OWNED &&\n        \
                              (RecvMode != QUIC_RECV_BUF_MODE_MULTIPLE ||\n         \
                              AllocBufferLength != QUIC_DEFAULT_STREAM_RECV_BUFFER_SIZE)) {\n        \
                              //\n        // Setup an initial chunk.\n",
            },
            Change {
                file: "src/core/recv_buffer.c",
                anchor: "        RecvBuffer->RecvMode == QUIC_RECV_BUF_MODE_APP_OWNED ||\n        \
                         !CxPlatListIsEmpty(&RecvBuffer->Chunks));\n\
                         \n    \
                         if (CxPlatListIsEmpty(&RecvBuffer->Chunks)) {\n",
                replacement: "        RecvBuffer->RecvMode == QUIC_RECV_BUF_MODE_APP_OWNED ||\n        \
                              RecvBuffer->RecvMode == QUIC_RECV_BUF_MODE_MULTIPLE ||\n        \
                              !CxPlatListIsEmpty(&RecvBuffer->Chunks));\n\
                              \n    \
                              if (CxPlatListIsEmpty(&RecvBuffer->Chunks)) {\n",
            },
            Change {
                file: "src/core/recv_buffer.c",
                anchor: "    const uint32_t AllocLength = QuicRecvBufferGetTotalAllocLength(RecvBuffer);\n    \
                         if (AbsoluteLength > RecvBuffer->BaseOffset + AllocLength) {\n",
                replacement: "    if (RecvBuffer->RecvMode == QUIC_RECV_BUF_MODE_MULTIPLE && CxPlatListIsEmpty(&RecvBuffer->Chunks)) {\n        \
                              QUIC_STREAM* Stream = CXPLAT_CONTAINING_RECORD(RecvBuffer, QUIC_STREAM, RecvBuffer);\n        \
                              QUIC_RECV_CHUNK* Chunk =\n            \
                              CxPlatPoolAllocUninitialized(&Stream->Connection->Partition->DefaultReceiveBufferPool);\n        \
                              if (Chunk == NULL) {\n            \
                              *BufferSizeNeeded = AbsoluteLength - RecvBuffer->BaseOffset;\n            \
                              return QUIC_STATUS_OUT_OF_MEMORY;\n        \
                              }\n        \
                              CxPlatZeroMemory(Chunk, sizeof(QUIC_RECV_CHUNK));\n        \
                              QuicRecvChunkInitialize(\n            \
                              Chunk, QUIC_DEFAULT_STREAM_RECV_BUFFER_SIZE, (uint8_t*)(Chunk + 1), TRUE);\n        \
                              CxPlatListInsertHead(&RecvBuffer->Chunks, &Chunk->Link);\n        \
                              RecvBuffer->Capacity = QUIC_DEFAULT_STREAM_RECV_BUFFER_SIZE;\n    \
                              }\n\
                              \n    \
                              const uint32_t AllocLength = QuicRecvBufferGetTotalAllocLength(RecvBuffer);\n    \
                              if (AbsoluteLength > RecvBuffer->BaseOffset + AllocLength) {\n",
            },
            Change {
                file: "src/core/recv_buffer.c",
                anchor: "        FirstChunk->ExternalReference = RecvBuffer->ReadPendingLength != 0;\n",
                replacement: "        FirstChunk->ExternalReference = RecvBuffer->ReadPendingLength != 0;\n        \
                              if (RecvBuffer->ReadPendingLength == 0 &&\n            \
                              FirstChunk->Link.Flink == &RecvBuffer->Chunks &&\n            \
                              FirstChunk->AllocLength == QUIC_DEFAULT_STREAM_RECV_BUFFER_SIZE &&\n            \
                              QuicRecvBufferGetTotalLength(RecvBuffer) == RecvBuffer->BaseOffset) {\n            \
                              CxPlatListEntryRemove(&FirstChunk->Link);\n            \
                              QuicRecvChunkFree(FirstChunk);\n            \
                              RecvBuffer->Capacity = 0;\n            \
                              RecvBuffer->ReadStart = 0;\n            \
                              RecvBuffer->ReadLength = 0;\n        \
                              }\n",
            },
        ],
    },
    Edit {
        name: "local-packets-by-flow",
        prevents: "which of a server's sockets a packet comes to is decided by the processor that it is received on: over loopback that is \
                   the sender's, and changes, so that packets overtake each other, and are handed on by the thread that receives them \
                   to the one that has their connection",
        changes: &[
            // What comes from a network card stays with the processor that the card has chosen for its flow. Over loopback the program
            // returns what is no socket, and then Linux decides by the addresses.
            Change {
                file: "src/platform/datapath_linux.c",
                anchor: "    struct sock_filter BpfCode[] = {\n        \
                         {BPF_LD | BPF_W | BPF_ABS, 0, 0, SKF_AD_OFF | SKF_AD_CPU}, // Load CPU number\n",
                replacement: "    struct sock_filter BpfCode[] = {\n        \
                              {BPF_LD | BPF_W | BPF_ABS, 0, 0, SKF_AD_OFF | SKF_AD_HATYPE}, // Load kind of device\n        \
                              {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 772}, // Skip the next unless it is ARPHRD_LOOPBACK\n        \
                              {BPF_RET | BPF_K, 0, 0, UINT32_MAX}, // Return what is no socket\n        \
                              {BPF_LD | BPF_W | BPF_ABS, 0, 0, SKF_AD_OFF | SKF_AD_CPU}, // Load CPU number\n",
            },
        ],
    },
    Edit {
        name: "timers-in-a-heap",
        prevents: "a timer that is set walks through a list of all connections that have one within the same second, and one that was the \
                   next to expire looks at all lists for another",
        changes: &[
            Change {
                file: "src/core/timer_wheel.c",
                anchor: "//\n// The initial count of slots in the timer wheel.\n//\n",
                replacement: "//\n\
                              // A pairing heap in place of slots: no connection has a sooner timer than the one above it, so the next to\n\
                              // expire is at the top.\n\
                              //\n\
                              \n\
                              static\n\
                              QUIC_CONNECTION*\n\
                              QuicTimerHeapMeld(\n    \
                              _In_opt_ QUIC_CONNECTION* First,\n    \
                              _In_opt_ QUIC_CONNECTION* Second\n    \
                              )\n\
                              {\n    \
                              if (First == NULL || Second == NULL) {\n        \
                              return First != NULL ? First : Second;\n    \
                              }\n    \
                              QUIC_CONNECTION* Above = First;\n    \
                              QUIC_CONNECTION* Below = Second;\n    \
                              if (Second->EarliestExpirationTime < First->EarliestExpirationTime) {\n        \
                              Above = Second;\n        \
                              Below = First;\n    \
                              }\n    \
                              Below->TimerPrevious = Above;\n    \
                              Below->TimerNext = Above->TimerChild;\n    \
                              if (Below->TimerNext != NULL) {\n        \
                              Below->TimerNext->TimerPrevious = Below;\n    \
                              }\n    \
                              Above->TimerChild = Below;\n    \
                              return Above;\n\
                              }\n\
                              \n\
                              static\n\
                              QUIC_CONNECTION*\n\
                              QuicTimerHeapMeldSiblings(\n    \
                              _In_opt_ QUIC_CONNECTION* Sibling\n    \
                              )\n\
                              {\n    \
                              //\n    \
                              // First two by two, then the pairs from the last to the first.\n    \
                              //\n    \
                              QUIC_CONNECTION* Pairs = NULL;\n    \
                              while (Sibling != NULL) {\n        \
                              QUIC_CONNECTION* First = Sibling;\n        \
                              QUIC_CONNECTION* Second = First->TimerNext;\n        \
                              Sibling = Second != NULL ? Second->TimerNext : NULL;\n        \
                              QUIC_CONNECTION* Pair = QuicTimerHeapMeld(First, Second);\n        \
                              Pair->TimerNext = Pairs;\n        \
                              Pairs = Pair;\n    \
                              }\n    \
                              QUIC_CONNECTION* Top = NULL;\n    \
                              while (Pairs != NULL) {\n        \
                              QUIC_CONNECTION* Next = Pairs->TimerNext;\n        \
                              Top = QuicTimerHeapMeld(Top, Pairs);\n        \
                              Pairs = Next;\n    \
                              }\n    \
                              if (Top != NULL) {\n        \
                              Top->TimerPrevious = NULL;\n        \
                              Top->TimerNext = NULL;\n    \
                              }\n    \
                              return Top;\n\
                              }\n\
                              \n\
                              static\n\
                              void\n\
                              QuicTimerHeapSetTop(\n    \
                              _Inout_ QUIC_TIMER_WHEEL* TimerWheel,\n    \
                              _In_opt_ QUIC_CONNECTION* Top\n    \
                              )\n\
                              {\n    \
                              TimerWheel->NextConnection = Top;\n    \
                              TimerWheel->NextExpirationTime = Top != NULL ? Top->EarliestExpirationTime : UINT64_MAX;\n\
                              }\n\
                              \n\
                              static\n\
                              void\n\
                              QuicTimerHeapInsert(\n    \
                              _Inout_ QUIC_TIMER_WHEEL* TimerWheel,\n    \
                              _Inout_ QUIC_CONNECTION* Connection\n    \
                              )\n\
                              {\n    \
                              CXPLAT_DBG_ASSERT(Connection->TimerChild == NULL && Connection->TimerNext == NULL);\n    \
                              CXPLAT_DBG_ASSERT(Connection->TimerLink.Flink == NULL && Connection->TimerPrevious == NULL);\n    \
                              Connection->TimerLink.Flink = &Connection->TimerLink;\n    \
                              TimerWheel->ConnectionCount++;\n    \
                              QuicTimerHeapSetTop(TimerWheel, QuicTimerHeapMeld(TimerWheel->NextConnection, Connection));\n\
                              }\n\
                              \n\
                              //\n\
                              // The connection's own time may be another by now, but no other's is.\n\
                              //\n\
                              static\n\
                              void\n\
                              QuicTimerHeapRemove(\n    \
                              _Inout_ QUIC_TIMER_WHEEL* TimerWheel,\n    \
                              _Inout_ QUIC_CONNECTION* Connection\n    \
                              )\n\
                              {\n    \
                              CXPLAT_DBG_ASSERT(Connection->TimerLink.Flink == &Connection->TimerLink);\n    \
                              CXPLAT_DBG_ASSERT(Connection == TimerWheel->NextConnection || Connection->TimerPrevious != NULL);\n    \
                              QUIC_CONNECTION* Top = QuicTimerHeapMeldSiblings(Connection->TimerChild);\n    \
                              if (Connection != TimerWheel->NextConnection) {\n        \
                              if (Connection->TimerPrevious->TimerChild == Connection) {\n            \
                              Connection->TimerPrevious->TimerChild = Connection->TimerNext;\n        \
                              } else {\n            \
                              Connection->TimerPrevious->TimerNext = Connection->TimerNext;\n        \
                              }\n        \
                              if (Connection->TimerNext != NULL) {\n            \
                              Connection->TimerNext->TimerPrevious = Connection->TimerPrevious;\n        \
                              }\n        \
                              Top = QuicTimerHeapMeld(TimerWheel->NextConnection, Top);\n    \
                              }\n    \
                              Connection->TimerChild = NULL;\n    \
                              Connection->TimerNext = NULL;\n    \
                              Connection->TimerPrevious = NULL;\n    \
                              Connection->TimerLink.Flink = NULL;\n    \
                              TimerWheel->ConnectionCount--;\n    \
                              QuicTimerHeapSetTop(TimerWheel, Top);\n\
                              }\n\
                              \n\
                              _IRQL_requires_max_(PASSIVE_LEVEL)\n\
                              QUIC_STATUS\n\
                              QuicTimerWheelInitialize(\n    \
                              _Inout_ QUIC_TIMER_WHEEL* TimerWheel\n    \
                              )\n\
                              {\n    \
                              TimerWheel->ConnectionCount = 0;\n    \
                              QuicTimerHeapSetTop(TimerWheel, NULL);\n    \
                              return QUIC_STATUS_SUCCESS;\n\
                              }\n\
                              \n\
                              _IRQL_requires_max_(PASSIVE_LEVEL)\n\
                              void\n\
                              QuicTimerWheelUninitialize(\n    \
                              _Inout_ QUIC_TIMER_WHEEL* TimerWheel\n    \
                              )\n\
                              {\n    \
                              CXPLAT_TEL_ASSERT(TimerWheel->ConnectionCount == 0);\n    \
                              CXPLAT_TEL_ASSERT(TimerWheel->NextConnection == NULL);\n\
                              }\n\
                              \n\
                              _IRQL_requires_max_(PASSIVE_LEVEL)\n\
                              void\n\
                              QuicTimerWheelRemoveConnection(\n    \
                              _Inout_ QUIC_TIMER_WHEEL* TimerWheel,\n    \
                              _Inout_ QUIC_CONNECTION* Connection\n    \
                              )\n\
                              {\n    \
                              if (Connection->TimerLink.Flink != NULL) {\n        \
                              QuicTimerHeapRemove(TimerWheel, Connection);\n        \
                              QuicConnRelease(Connection, QUIC_CONN_REF_TIMER_WHEEL);\n    \
                              }\n\
                              }\n\
                              \n\
                              _IRQL_requires_max_(PASSIVE_LEVEL)\n\
                              void\n\
                              QuicTimerWheelUpdateConnection(\n    \
                              _Inout_ QUIC_TIMER_WHEEL* TimerWheel,\n    \
                              _Inout_ QUIC_CONNECTION* Connection\n    \
                              )\n\
                              {\n    \
                              const BOOLEAN HasTimer =\n        \
                              Connection->EarliestExpirationTime != UINT64_MAX && !Connection->State.ShutdownComplete;\n    \
                              if (!HasTimer) {\n        \
                              QuicTimerWheelRemoveConnection(TimerWheel, Connection);\n        \
                              return;\n    \
                              }\n    \
                              if (Connection->TimerLink.Flink != NULL) {\n        \
                              QuicTimerHeapRemove(TimerWheel, Connection);\n    \
                              } else {\n        \
                              QuicConnAddRef(Connection, QUIC_CONN_REF_TIMER_WHEEL);\n    \
                              }\n    \
                              QuicTimerHeapInsert(TimerWheel, Connection);\n\
                              }\n\
                              \n\
                              _IRQL_requires_max_(PASSIVE_LEVEL)\n\
                              void\n\
                              QuicTimerWheelGetExpired(\n    \
                              _Inout_ QUIC_TIMER_WHEEL* TimerWheel,\n    \
                              _In_ uint64_t TimeNow,\n    \
                              _Inout_ CXPLAT_LIST_ENTRY* OutputListHead\n    \
                              )\n\
                              {\n    \
                              QUIC_CONNECTION* Connection;\n    \
                              while ((Connection = TimerWheel->NextConnection) != NULL && TimerWheel->NextExpirationTime <= TimeNow) {\n        \
                              QuicTimerHeapRemove(TimerWheel, Connection);\n        \
                              CxPlatListInsertTail(OutputListHead, &Connection->TimerLink);\n        \
                              QuicConnAddRef(Connection, QUIC_CONN_REF_WORKER);\n        \
                              QuicConnRelease(Connection, QUIC_CONN_REF_TIMER_WHEEL);\n    \
                              }\n\
                              }\n\
                              \n\
                              #if 0 // The wheel.\n",
            },
            Change {
                file: "src/core/timer_wheel.c",
                anchor: "    if (NeedsUpdate) {\n        QuicTimerWheelUpdate(TimerWheel);\n    }\n}\n",
                replacement: "    if (NeedsUpdate) {\n        QuicTimerWheelUpdate(TimerWheel);\n    }\n}\n#endif\n",
            },
            Change {
                file: "src/core/timer_wheel.h",
                anchor: "    //\n    \
                         // The number of slots in the Slots array.\n    \
                         //\n    \
                         uint32_t SlotCount;\n\
                         \n    \
                         //\n    \
                         // An array of slots in the timer wheel.\n    \
                         //\n    \
                         CXPLAT_LIST_ENTRY* Slots;\n\
                         \n",
                replacement: "",
            },
            Change {
                file: "src/core/connection.h",
                anchor: "    // Link in the timer wheel's list.\n    \
                         //\n    \
                         CXPLAT_LIST_ENTRY TimerLink;\n",
                replacement: "    // Link in the list of expired timers. Links to itself while the connection is in its worker's heap.\n    \
                              //\n    \
                              CXPLAT_LIST_ENTRY TimerLink;\n\
                              \n    \
                              //\n    \
                              // Links in the worker's heap of timers. The first child's previous is its parent.\n    \
                              //\n    \
                              QUIC_CONNECTION* TimerChild;\n    \
                              QUIC_CONNECTION* TimerNext;\n    \
                              QUIC_CONNECTION* TimerPrevious;\n",
            },
        ],
    },
];
