/*
 * Who may come in. A user would lose the meaning of a password if this were wrong: a proof that is
 * accepted although it is none, or a name that can be told from another by how it is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#include "router/scram.h"

/* RFC 7677, section 3. */
#define SALT         "W22ZaJ0SNY7soEsUEjb6gQ=="
#define CLIENT_NONCE "rOprNGfwEbeRWgbNEkqO"
#define BOTH_NONCES  CLIENT_NONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define CLIENT_FIRST "n,,n=user,r=" CLIENT_NONCE
#define PROOF        "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
#define CLIENT_FINAL "c=biws,r=" BOTH_NONCES ",p=" PROOF
#define SIGNATURE    "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

typedef struct Exchange {
    Scram scram;
    Buf out;
    Error err;
} Exchange;

static void hmac(const uint8_t *key, const char *text, uint8_t *ret)
{
    unsigned len = SCRAM_KEY_LEN;
    HMAC(EVP_sha256(), key, SCRAM_KEY_LEN, (const unsigned char *)text, strlen(text), ret, &len);
}

/* The verifier of "pencil", made here from the password: SaltedPassword, ClientKey, StoredKey. */
static const char *verifier(void)
{
    static char text[256];
    uint8_t salt[18], salted[SCRAM_KEY_LEN], key[SCRAM_KEY_LEN], stored[SCRAM_KEY_LEN];
    char stored_text[64], server_text[64];
    assert_int_equal(EVP_DecodeBlock(salt, (const unsigned char *)SALT, (int)strlen(SALT)), 18);
    assert_int_equal(PKCS5_PBKDF2_HMAC("pencil", 6, salt, 16, 4096, EVP_sha256(), SCRAM_KEY_LEN, salted), 1);
    hmac(salted, "Client Key", key);
    SHA256(key, SCRAM_KEY_LEN, stored);
    EVP_EncodeBlock((unsigned char *)stored_text, stored, SCRAM_KEY_LEN);
    hmac(salted, "Server Key", key);
    EVP_EncodeBlock((unsigned char *)server_text, key, SCRAM_KEY_LEN);
    snprintf(text, sizeof text, "SCRAM-SHA-256$4096:" SALT "$%s:%s", stored_text, server_text);
    return text;
}

static Exchange *begin(const char *verifier_text, const char *user)
{
    Exchange *x = calloc(1, sizeof *x);
    scram_init(&x->scram, verifier_text, slice_str(user));
    buf_init(&x->out, 4096);
    return x;
}

static void end(Exchange *x)
{
    scram_finish(&x->scram);
    buf_finish(&x->out);
    free(x);
}

static bool first(Exchange *x, const char *message)
{
    return scram_first(&x->scram, slice_str(message), false, &x->out, &x->err);
}

static bool final(Exchange *x, const char *message)
{
    buf_reset(&x->out);
    return scram_final(&x->scram, slice_str(message), &x->out, &x->err);
}

static bool says(const Exchange *x, const char *text)
{
    return slice_equal(buf_bytes(&x->out), slice_str(text));
}

/* The exchange of the RFC: its nonce takes the place of the one we have drawn. */
static Exchange *rfc(const char *verifier_text)
{
    Exchange *x = begin(verifier_text, "user");
    assert_true(first(x, CLIENT_FIRST));
    snprintf(x->scram.nonce, sizeof x->scram.nonce, "%s", BOTH_NONCES);
    buf_reset(&x->scram.auth_message);
    assert_true(buf_append(&x->scram.auth_message,
                           SLICE("n=user,r=" CLIENT_NONCE ",r=" BOTH_NONCES ",s=" SALT ",i=4096")));
    return x;
}

static void test_the_exchange_of_the_rfc(void **state)
{
    /* No client can log in, or none can be sure that it speaks with us. */
    (void)state;
    Exchange *x = rfc(verifier());
    assert_true(final(x, CLIENT_FINAL));
    assert_true(says(x, SIGNATURE));
    end(x);
}

static void test_server_first(void **state)
{
    /* A proof could be said again by somebody who has listened: our part of the nonce must be new. */
    (void)state;
    Exchange *one = begin(verifier(), "user"), *two = begin(verifier(), "user");
    assert_true(first(one, CLIENT_FIRST) && first(two, CLIENT_FIRST));
    Slice text = buf_bytes(&one->out);
    assert_memory_equal(text.data, "r=" CLIENT_NONCE, strlen("r=" CLIENT_NONCE));
    assert_non_null(memmem(text.data, text.len, ",s=" SALT ",i=4096", strlen(",s=" SALT ",i=4096")));
    assert_int_equal(text.len, strlen("r=" CLIENT_NONCE ",s=" SALT ",i=4096") + SCRAM_NONCE_LEN);
    assert_false(slice_equal(text, buf_bytes(&two->out)));
    end(one);
    end(two);
}

static void test_wrong_proofs(void **state)
{
    /* A wrong password opens the door. */
    static const char *const FINALS[] = {
        "c=biws,r=" BOTH_NONCES ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVU=", /* of the last byte */
        "c=biws,r=" BOTH_NONCES ",p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "c=biws,r=" BOTH_NONCES ",x=1,p=" PROOF, /* an extension that was not signed */
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(FINALS); i++) {
        Exchange *x = rfc(verifier());
        assert_false(final(x, FINALS[i]));
        assert_true(error_is(&x->err, SQLSTATE_INVALID_PASSWORD));
        assert_int_equal(buf_len(&x->out), 0);
        end(x);
    }
}

static void test_an_unknown_user(void **state)
{
    /* The names of users can be found by asking: the salt changes, or the error does. */
    (void)state;
    Exchange *one = begin(NULL, "ghost"), *two = begin("md5abc", "ghost"), *three = begin(NULL, "other");
    assert_true(first(one, CLIENT_FIRST) && first(two, CLIENT_FIRST) && first(three, CLIENT_FIRST));
    assert_string_equal(one->scram.salt, two->scram.salt);
    assert_string_not_equal(one->scram.salt, three->scram.salt);
    assert_int_equal(strlen(one->scram.salt), strlen(SALT));
    assert_int_equal(one->scram.iterations, 4096);
    char message[512];
    snprintf(message, sizeof message, "c=biws,r=%s,p=%s", one->scram.nonce, PROOF);
    assert_false(final(one, message));
    assert_true(error_is(&one->err, SQLSTATE_INVALID_PASSWORD));
    end(one);
    end(two);
    end(three);
}

static void test_a_mock_exchange_fails_with_the_right_proof(void **state)
{
    /* Somebody who knows the mock's keys comes in as a user who does not exist. */
    (void)state;
    Exchange *x = rfc(verifier());
    x->scram.doomed = true;
    assert_false(final(x, CLIENT_FINAL));
    assert_true(error_is(&x->err, SQLSTATE_INVALID_PASSWORD));
    end(x);
}

static void test_damaged_verifiers(void **state)
{
    /* A verifier that was cut while copying lets everybody in, or reads past its end. */
    static const char *const VERIFIERS[] = {
        "", "SCRAM-SHA-256$", "SCRAM-SHA-256$4096:" SALT, "SCRAM-SHA-256$4096:" SALT "$:",
        "SCRAM-SHA-256$4096:" SALT "$AAAA:AAAA", "SCRAM-SHA-256$x:" SALT "$AAAA:AAAA",
        "SCRAM-SHA-256$4096:" SALT "$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(VERIFIERS); i++) {
        Exchange *x = begin(VERIFIERS[i], "user");
        assert_true(x->scram.doomed);
        assert_true(first(x, CLIENT_FIRST));
        end(x);
    }
}

static void test_malformed_first_messages(void **state)
{
    /* Bytes of a stranger are read past their end, or taken for a login. */
    static const struct {
        const char *message, *code;
    } CASES[] = {
        {"", SQLSTATE_PROTOCOL_VIOLATION},
        {"n", SQLSTATE_PROTOCOL_VIOLATION},
        {"n,", SQLSTATE_PROTOCOL_VIOLATION},
        {"n,,", SQLSTATE_PROTOCOL_VIOLATION},
        {"q,,n=,r=abc", SQLSTATE_PROTOCOL_VIOLATION},
        {"nn,n=,r=abc", SQLSTATE_PROTOCOL_VIOLATION},
        {"n,x,n=,r=abc", SQLSTATE_PROTOCOL_VIOLATION},
        {"n,a=other,n=,r=abc", SQLSTATE_FEATURE_NOT_SUPPORTED},
        {"p=tls-server-end-point,,n=,r=abc", SQLSTATE_PROTOCOL_VIOLATION},
        {"n,,m=ext,n=,r=abc", SQLSTATE_PROTOCOL_VIOLATION},
        {"n,,r=abc", SQLSTATE_PROTOCOL_VIOLATION},
        {"n,,n=", SQLSTATE_PROTOCOL_VIOLATION},
        {"n,,n=,r", SQLSTATE_PROTOCOL_VIOLATION},
        {"n,,n=,r=", SQLSTATE_PROTOCOL_VIOLATION},
        {"n,,n=,r=a c", SQLSTATE_PROTOCOL_VIOLATION},
        {"n,,n=,r=a\xc3\xa4", SQLSTATE_PROTOCOL_VIOLATION},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        Exchange *x = begin(verifier(), "user");
        if (first(x, CASES[i].message) || !error_is(&x->err, CASES[i].code))
            fail_msg("\"%s\": %s %s", CASES[i].message, x->err.sqlstate, x->err.message);
        assert_int_equal(buf_len(&x->out), 0);
        end(x);
    }
}

static void test_a_long_nonce(void **state)
{
    /* It is written behind its buffer. */
    (void)state;
    char message[600];
    for (int len = 200; len < 400; len++) {
        Exchange *x = begin(verifier(), "user");
        snprintf(message, sizeof message, "n,,n=,r=%.*s", len,
                 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        assert_int_equal(first(x, message), len <= 256);
        end(x);
    }
}

static void test_malformed_final_messages(void **state)
{
    /* The same for the second message; none of them may count as a proof. */
    static const char *const FINALS[] = {
        "", "c", "c=biws", "c=eSws,r=" BOTH_NONCES ",p=" PROOF, "c=biws,p=" PROOF,
        "c=biws,r=" BOTH_NONCES, "c=biws,r=" BOTH_NONCES ",", "c=biws,r=" BOTH_NONCES ",p=",
        "c=biws,r=" BOTH_NONCES ",p=short", "c=biws,r=" BOTH_NONCES ",p=" PROOF ",x=1",
        "c=biws,r=" BOTH_NONCES ",p=" PROOF PROOF,
        "c=biws,r=" BOTH_NONCES ",p=????????????????????????????????????????????",
        "c=biws,r=" CLIENT_NONCE ",p=" PROOF, "c=biws,r=" BOTH_NONCES "x,p=" PROOF, "r=" BOTH_NONCES ",p=" PROOF,
        "c=biws,r=" BOTH_NONCES ",junk,p=" PROOF,
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(FINALS); i++) {
        Exchange *x = rfc(verifier());
        if (final(x, FINALS[i]) || !error_is(&x->err, SQLSTATE_PROTOCOL_VIOLATION))
            fail_msg("\"%s\": %s %s", FINALS[i], x->err.sqlstate, x->err.message);
        assert_int_equal(buf_len(&x->out), 0);
        end(x);
    }
}

static void test_a_nul_in_a_message(void **state)
{
    /* What is behind the NUL is signed by one side only. */
    (void)state;
    Exchange *x = begin(verifier(), "user");
    assert_false(scram_first(&x->scram, SLICE("n,,n=\0,r=abc"), false, &x->out, &x->err));
    assert_true(error_is(&x->err, SQLSTATE_PROTOCOL_VIOLATION));
    end(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_exchange_of_the_rfc),
        cmocka_unit_test(test_server_first),
        cmocka_unit_test(test_wrong_proofs),
        cmocka_unit_test(test_an_unknown_user),
        cmocka_unit_test(test_a_mock_exchange_fails_with_the_right_proof),
        cmocka_unit_test(test_damaged_verifiers),
        cmocka_unit_test(test_malformed_first_messages),
        cmocka_unit_test(test_a_long_nonce),
        cmocka_unit_test(test_malformed_final_messages),
        cmocka_unit_test(test_a_nul_in_a_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
