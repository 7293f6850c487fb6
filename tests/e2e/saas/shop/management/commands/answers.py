"""Fills the shop, asks it what such an application asks, and prints the answers as JSON, one a line."""
import datetime
import json

from django.core.management.base import BaseCommand
from django.db import transaction
from django.db.models import Avg, Count, Exists, F, Max, OuterRef, Q, Sum

from shop.models import Event, Item, Order, Tenant, User


def fill():
    Tenant.objects.bulk_create(Tenant(id=i, name=f'tenant {i}', plan=['free', 'pro'][i % 2]) for i in range(1, 13))
    User.objects.bulk_create(User(id=i, tenant_id=i % 12 + 1, mail=f'u{i}@x', active=i % 5 > 0) for i in range(1, 61))
    Order.objects.bulk_create(Order(id=i, tenant_id=i % 12 + 1, user_id=i % 60 + 1,
                                    placed=datetime.date(2020, 1, 1 + i % 28)) for i in range(1, 121))
    Item.objects.bulk_create(Item(id=i, order_id=i % 120 + 1, sku=f's{i % 7}', price=i % 13 + 0.5, count=i % 4 + 1)
                             for i in range(1, 241))
    Event.objects.bulk_create(Event(id=i, tenant_id=i % 12 + 1, kind=['view', 'buy'][i % 2], payload={'n': i})
                              for i in range(1, 81))


def answers():
    yield list(Tenant.objects.filter(id=3).values())
    yield list(User.objects.filter(id__in=[1, 2, 3, 4, 50]).order_by('id').values())
    yield User.objects.filter(active=True).count()
    yield list(Tenant.objects.order_by('-id').values_list('name', flat=True)[2:5])
    yield list(Tenant.objects.values('plan').annotate(n=Count('id')).order_by('plan'))
    yield list(Item.objects.values('sku').annotate(n=Sum('count'), m=Max('price'), a=Avg('price')).order_by('sku'))
    yield list(Order.objects.filter(user__mail='u7@x').order_by('id').values('id', 'user__mail'))
    yield list(Tenant.objects.annotate(n=Count('user')).order_by('-n', 'id').values('id', 'n')[:4])
    yield list(Tenant.objects.filter(Exists(Event.objects.filter(tenant=OuterRef('pk'), kind='buy'))).order_by('id')
               .values_list('id', flat=True))
    yield Item.objects.filter(Q(sku='s1') | Q(price__gt=10)).aggregate(total=Sum(F('price') * F('count')))
    yield list(User.objects.filter(mail__startswith='u1').order_by('mail').values_list('mail', flat=True))
    yield list(Order.objects.dates('placed', 'month'))
    yield list(Event.objects.filter(payload__n=7).values('kind'))
    yield User.objects.filter(mail='nobody').exists(), User.objects.filter(mail='u3@x').exists()
    yield [len(o.item_set.all()) for o in Order.objects.prefetch_related('item_set').filter(id__lt=20).order_by('id')]
    with transaction.atomic():
        yield User.objects.filter(active=False).update(active=True)
        yield Event.objects.filter(kind='view').delete()[0]
    yield User.objects.filter(active=True).count(), Event.objects.count()
    new = Tenant.objects.create(id=100, name='new')
    yield new.pk, Tenant.objects.get(pk=new.pk).name


class Command(BaseCommand):
    def handle(self, *args, **options):
        fill()
        for answer in answers():
            self.stdout.write(json.dumps(answer, default=str))
