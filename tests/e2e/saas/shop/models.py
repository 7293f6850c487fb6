from django.db import models


class Tenant(models.Model):
    name = models.CharField(max_length=80)
    plan = models.CharField(max_length=10, default='free', db_index=True)


class User(models.Model):
    tenant = models.ForeignKey(Tenant, on_delete=models.DO_NOTHING, db_constraint=False)
    mail = models.CharField(max_length=200, db_index=True)
    active = models.BooleanField(default=True)


class Order(models.Model):
    tenant = models.ForeignKey(Tenant, on_delete=models.DO_NOTHING, db_constraint=False)
    user = models.ForeignKey(User, on_delete=models.DO_NOTHING, db_constraint=False)
    placed = models.DateField()


class Item(models.Model):
    order = models.ForeignKey(Order, on_delete=models.DO_NOTHING, db_constraint=False)
    sku = models.CharField(max_length=20)
    price = models.DecimalField(max_digits=10, decimal_places=2)
    count = models.IntegerField(default=1)


class Event(models.Model):
    tenant = models.ForeignKey(Tenant, on_delete=models.DO_NOTHING, db_constraint=False)
    kind = models.CharField(max_length=20)
    payload = models.JSONField(default=dict)
