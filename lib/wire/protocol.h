/*
 * protocol.h - the letters and numbers of PostgreSQL's protocol version 3.
 *
 * A typed message is   type(1)  length(4, counts itself, not the type)  body(length - 4)
 * A first message has no type:  length(4)  code(4)  body          see startup.h
 * Integers are big-endian; strings end with NUL; a value's length -1 means NULL.
 */
#ifndef SHOAL_WIRE_PROTOCOL_H
#define SHOAL_WIRE_PROTOCOL_H

/* What a client may send. 'p' is one of four, depending on what the server asked for. */
#define FRONTEND_BIND          'B'
#define FRONTEND_CLOSE         'C'
#define FRONTEND_COPY_DATA     'd'
#define FRONTEND_COPY_DONE     'c'
#define FRONTEND_COPY_FAIL     'f'
#define FRONTEND_DESCRIBE      'D'
#define FRONTEND_EXECUTE       'E'
#define FRONTEND_FLUSH         'H'
#define FRONTEND_FUNCTION_CALL 'F'
#define FRONTEND_PARSE         'P'
#define FRONTEND_PASSWORD      'p'
#define FRONTEND_QUERY         'Q'
#define FRONTEND_SYNC          'S'
#define FRONTEND_TERMINATE     'X'

/* What a server may send. */
#define BACKEND_AUTHENTICATION        'R'
#define BACKEND_BIND_COMPLETE         '2'
#define BACKEND_CLOSE_COMPLETE        '3'
#define BACKEND_COMMAND_COMPLETE      'C'
#define BACKEND_COPY_BOTH             'W'
#define BACKEND_COPY_DATA             'd'
#define BACKEND_COPY_DONE             'c'
#define BACKEND_COPY_IN               'G'
#define BACKEND_COPY_OUT              'H'
#define BACKEND_DATA_ROW              'D'
#define BACKEND_EMPTY_QUERY           'I'
#define BACKEND_ERROR                 'E'
#define BACKEND_FUNCTION_RESULT       'V'
#define BACKEND_KEY_DATA              'K'
#define BACKEND_NEGOTIATE_VERSION     'v'
#define BACKEND_NO_DATA               'n'
#define BACKEND_NOTICE                'N'
#define BACKEND_NOTIFICATION          'A'
#define BACKEND_PARAMETER_DESCRIPTION 't'
#define BACKEND_PARAMETER_STATUS      'S'
#define BACKEND_PARSE_COMPLETE        '1'
#define BACKEND_PORTAL_SUSPENDED      's'
#define BACKEND_READY                 'Z'
#define BACKEND_ROW_DESCRIPTION       'T'

/* ReadyForQuery's only byte. */
#define TX_IDLE   'I' /* not in a transaction */
#define TX_BLOCK  'T' /* in a transaction */
#define TX_FAILED 'E' /* in a transaction that can only be rolled back */

/* Describe and Close speak of one of these. */
#define TARGET_STATEMENT 'S'
#define TARGET_PORTAL    'P'

#define FORMAT_TEXT   0
#define FORMAT_BINARY 1

/* Codes of the first message: major version in the high half, minor in the low half. */
#define PROTOCOL_VERSION(major, minor) (((uint32_t)(major) << 16) | (uint32_t)(minor))
#define PROTOCOL_3_0                   PROTOCOL_VERSION(3, 0)
#define PROTOCOL_CANCEL                PROTOCOL_VERSION(1234, 5678)
#define PROTOCOL_SSL                   PROTOCOL_VERSION(1234, 5679)
#define PROTOCOL_GSS                   PROTOCOL_VERSION(1234, 5680)

/* Authentication requests: the first int32 of an 'R'. */
#define AUTH_OK            0
#define AUTH_KERBEROS5     2
#define AUTH_CLEARTEXT     3
#define AUTH_MD5           5
#define AUTH_GSS           7
#define AUTH_GSS_CONTINUE  8
#define AUTH_SSPI          9
#define AUTH_SASL          10
#define AUTH_SASL_CONTINUE 11
#define AUTH_SASL_FINAL    12

/* ErrorResponse and NoticeResponse: codes of the fields. */
#define FIELD_SEVERITY          'S' /* perhaps translated */
#define FIELD_SEVERITY_PLAIN    'V' /* never translated */
#define FIELD_SQLSTATE          'C'
#define FIELD_MESSAGE           'M'
#define FIELD_DETAIL            'D'
#define FIELD_HINT              'H'
#define FIELD_POSITION          'P'
#define FIELD_INTERNAL_POSITION 'p'
#define FIELD_INTERNAL_QUERY    'q'
#define FIELD_WHERE             'W'
#define FIELD_SCHEMA            's'
#define FIELD_TABLE             't'
#define FIELD_COLUMN            'c'
#define FIELD_DATA_TYPE         'd'
#define FIELD_CONSTRAINT        'n'
#define FIELD_FILE              'F'
#define FIELD_LINE              'L'
#define FIELD_ROUTINE           'R'

#define SEVERITY_ERROR   "ERROR"
#define SEVERITY_FATAL   "FATAL"
#define SEVERITY_WARNING "WARNING"
#define SEVERITY_NOTICE  "NOTICE"

/* Limits that PostgreSQL itself keeps. */
#define STARTUP_BODY_MAX     10000      /* bytes of a first message behind its length */
#define SMALL_BODY_MAX       10000      /* of a message that never carries user data */
#define AUTH_BODY_MAX        65535      /* of a 'p' before the login is done */
#define LARGE_BODY_MAX       0x3ffffffe /* of any message */
#define BACKEND_SMALL_MAX    30000      /* of a server's message without user data */
#define COLUMNS_MAX          1664       /* in a row */
#define IDENTIFIER_BYTES_MAX 63

#endif
